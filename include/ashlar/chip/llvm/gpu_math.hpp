// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string_view>

namespace ashlar::chip::llvm_codegen {

/// `float @ashlar_expf(float)` for targets without a C library, within 1 ulp of exp.
///
/// exp(x) = 2^n exp(r) with n = round(x / ln 2) and |r| <= ln 2 / 2; exp(r) by its series, whose
/// next term is below 2^-28; 2^n in two factors, so that results below the normal numbers round
/// once.
inline constexpr std::string_view gpu_expf = R"(
define internal float @ashlar_expf(float %x) #0 {
  %low = fcmp olt float %x, -1.050000e+02
  %a = select i1 %low, float -1.050000e+02, float %x
  %high = fcmp ogt float %a, 8.900000e+01
  %b = select i1 %high, float 8.900000e+01, float %a
  %q = fmul float %b, 0x3FF7154760000000
  %n = call float @llvm.rint.f32(float %q)
  %m = fneg float %n
  %r0 = call float @llvm.fma.f32(float %m, float 0x3FE62E4000000000, float %b)
  %r = call float @llvm.fma.f32(float %m, float 0x3EB7F7D1C0000000, float %r0)
  %p7 = call float @llvm.fma.f32(float %r, float 0x3F2A01A020000000, float 0x3F56C16C20000000)
  %p5 = call float @llvm.fma.f32(float %p7, float %r, float 0x3F81111120000000)
  %p4 = call float @llvm.fma.f32(float %p5, float %r, float 0x3FA5555560000000)
  %p3 = call float @llvm.fma.f32(float %p4, float %r, float 0x3FC5555560000000)
  %p2 = call float @llvm.fma.f32(float %p3, float %r, float 5.000000e-01)
  %rr = fmul float %r, %r
  %p1 = call float @llvm.fma.f32(float %p2, float %rr, float %r)
  %p = fadd float %p1, 1.000000e+00
  %i = fptosi float %n to i32
  %i1 = ashr i32 %i, 1
  %i2 = sub i32 %i, %i1
  %e1 = add i32 %i1, 127
  %e2 = add i32 %i2, 127
  %s1 = shl i32 %e1, 23
  %s2 = shl i32 %e2, 23
  %f1 = bitcast i32 %s1 to float
  %f2 = bitcast i32 %s2 to float
  %y1 = fmul float %p, %f1
  %y = fmul float %y1, %f2
  %nan = fcmp uno float %x, %x
  %z = select i1 %nan, float %x, float %y
  ret float %z
}
)";

}  // namespace ashlar::chip::llvm_codegen
