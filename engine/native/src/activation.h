// What MLPs and soft-capped scores are bent by, sixteen floats at once.
#pragma once

#include <immintrin.h>

#include "exponential.h"

namespace sottovoce {

// 1 / (1 + exp(-x)), from exp(-|x|), which cannot overflow.
inline __m512 sigmoid(__m512 x) {
  const __m512 one = _mm512_set1_ps(1.0f);
  const __m512 small = exponential(_mm512_sub_ps(_mm512_setzero_ps(), _mm512_abs_ps(x)));
  const __mmask16 negative = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
  return _mm512_div_ps(_mm512_mask_mov_ps(one, negative, small), _mm512_add_ps(one, small));
}

// cap * tanh(x / cap), as 2 * sigmoid(2 x / cap) - 1.
inline __m512 capped(__m512 x, float cap) {
  const __m512 two = _mm512_set1_ps(2.0f);
  const __m512 tanh = _mm512_fmsub_ps(two, sigmoid(_mm512_mul_ps(x, _mm512_set1_ps(2.0f / cap))), _mm512_set1_ps(1.0f));
  return _mm512_mul_ps(tanh, _mm512_set1_ps(cap));
}

// 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), which is x * sigmoid of twice the argument.
inline __m512 gelu_tanh(__m512 x) {
  const __m512 square = _mm512_mul_ps(x, x);
  const __m512 factor = _mm512_fmadd_ps(square, _mm512_set1_ps(2.0f * 0.7978845608f * 0.044715f), _mm512_set1_ps(2.0f * 0.7978845608f));
  return _mm512_mul_ps(x, sigmoid(_mm512_mul_ps(x, factor)));
}

// x times the normal distribution function, from erfc by Abramowitz and Stegun, 7.1.26 (error below 1.5e-7).
inline __m512 gelu(__m512 x) {
  const __m512 one = _mm512_set1_ps(1.0f);
  const __m512 z = _mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(0.7071067812f));
  const __m512 t = _mm512_div_ps(one, _mm512_fmadd_ps(z, _mm512_set1_ps(0.3275911f), one));
  __m512 tail = _mm512_set1_ps(1.061405429f);
  for (const float factor : {-1.453152027f, 1.421413741f, -0.284496736f, 0.254829592f}) tail = _mm512_fmadd_ps(tail, t, _mm512_set1_ps(factor));
  const __m512 half = _mm512_set1_ps(0.5f);
  const __m512 beyond = _mm512_mul_ps(_mm512_mul_ps(_mm512_mul_ps(tail, t), exponential(_mm512_sub_ps(_mm512_setzero_ps(), _mm512_mul_ps(z, z)))), half);
  const __mmask16 negative = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
  return _mm512_mul_ps(x, _mm512_mask_mov_ps(_mm512_sub_ps(one, beyond), negative, beyond));
}

}  // namespace sottovoce
