// AMX: eight tiles of 16 rows of 64 bytes. One configuration serves every kernel here.
#pragma once

#include <asm/prctl.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace sottovoce {

constexpr int kTile = 16;  // rows of a tile, and columns of a tile of float32

// Ask the kernel for the tile registers, once a process (Linux: arch_prctl(2), ARCH_REQ_XCOMP_PERM).
inline bool request_tiles() {
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

// Full tiles for the life of the object, in the calling thread.
class Tiles {
 public:
  Tiles() {
    struct alignas(64) Config {
      unsigned char palette = 1, start_row = 0, reserved[14] = {};
      unsigned short bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      unsigned char rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    };
    static const Config config;
    // In assembly, because the compiler does not see that the instruction reads all 64 bytes.
    asm volatile("ldtilecfg %0" : : "m"(config));
  }
  ~Tiles() { _tile_release(); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;
};

}  // namespace sottovoce
