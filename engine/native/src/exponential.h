#pragma once

#include <immintrin.h>

namespace sottovoce {

// exp(x) for x <= 0, to about 2 units in the last place; 0 below -87.
inline __m512 exponential(__m512 x) {
  const __m512 scaled = _mm512_mul_ps(_mm512_max_ps(x, _mm512_set1_ps(-87.0f)), _mm512_set1_ps(1.44269504089f));
  const __m512 whole = _mm512_roundscale_ps(scaled, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 t = _mm512_sub_ps(scaled, whole);
  __m512 p = _mm512_set1_ps(1.5403530e-4f);
  p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(1.3333558e-3f));
  p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(9.6181291e-3f));
  p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(5.5504109e-2f));
  p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(2.4022651e-1f));
  p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(6.9314718e-1f));
  p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(1.0f));
  const __mmask16 kept = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.0f), _CMP_GE_OQ);
  return _mm512_maskz_scalef_ps(kept, p, whole);
}

}  // namespace sottovoce
