// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <set>
#include <string>
#include <string_view>

#include "ashlar/chip/llvm/text.hpp"
#include "ashlar/chip/llvm/vector_values.hpp"
#include "ashlar/core/dtype.hpp"

/// exp, log, tanh and erf for targets without a C library, as LLVM IR.
namespace ashlar::chip::llvm_codegen {

/// The name of a function that `gpu_math` writes: `@__ashlar_expf`, `@__ashlar_log` ...
inline std::string gpu_function(std::string_view name, dtype d) {
  return cat("@__ashlar_", name, d == dtype::float32 ? "f" : "");
}

/// `float @__ashlar_expf(float)`, within 2 ulp of exp.
///
/// exp(x) = 2^n 2^(r / ln 2) with n = round(x / ln 2) and |r| <= ln 2 / 2; both powers are the
/// machine's, which is exact for the first and within 2^-22 for the second. What 2^n lacks above
/// 2^127 goes into the second; results below the normal numbers round once.
inline constexpr std::string_view gpu_expf = R"(
declare float @llvm.nvvm.ex2.approx.f(float)

define internal float @__ashlar_expf(float %x) #0 {
  %low = fcmp olt float %x, -1.100000e+02
  %a = select i1 %low, float -1.100000e+02, float %x
  %high = fcmp ogt float %a, 1.100000e+02
  %b = select i1 %high, float 1.100000e+02, float %a
  %t = call float @llvm.fma.f32(float %b, float 0x3FF7154760000000, float 0x4168000000000000)
  %n = fsub float %t, 0x4168000000000000
  %m = fneg float %n
  %r0 = call float @llvm.fma.f32(float %m, float 0x3FE62E4000000000, float %b)
  %r = call float @llvm.fma.f32(float %m, float 0x3EB7F7D1C0000000, float %r0)
  %most = fcmp ogt float %n, 1.270000e+02
  %k = select i1 %most, float 1.270000e+02, float %n
  %more = fsub float %n, %k
  %q = call float @llvm.fma.f32(float %r, float 0x3FF7154760000000, float %more)
  %p = call float @llvm.nvvm.ex2.approx.f(float %q)
  %s = call float @llvm.nvvm.ex2.approx.f(float %k)
  %y = fmul float %p, %s
  ret float %y
}
)";

/// Writes one of the others from sums, products, quotients and the bits of numbers, so that it
/// gives the same on every machine. Series and continued fractions, no fitted tables but erf's of
/// the host.
class gpu_math {
 public:
  /// Returns: the definition; what it calls of LLVM's is added to `declared`.
  static std::string definition(std::string_view name, dtype d, std::set<std::string>& declared) {
    gpu_math m(d);
    m.t_.begin_block("start");
    const std::string y = name == "exp"    ? m.exp()
                          : name == "log"  ? m.log()
                          : name == "tanh" ? m.tanh()
                                           : m.erf();
    declared.insert(m.t_.declared.begin(), m.t_.declared.end());
    const std::string_view type = value_type(d);
    return cat("\ndefine internal ", type, " ", gpu_function(name, d), "(", type, " %x) #0 {\n",
               m.t_.body, "  ret ", type, " ", y, "\n}\n");
  }

 private:
  explicit gpu_math(dtype d) : d_(d) {}

  // --- one operation each ------------------------------------------------------------------------

  [[nodiscard]] bool wide() const { return d_ == dtype::float64; }
  [[nodiscard]] std::string_view bits_type() const { return wide() ? "i64" : "i32"; }
  [[nodiscard]] dtype integer() const { return wide() ? dtype::int64 : dtype::int32; }
  [[nodiscard]] int mantissa() const { return wide() ? 52 : 23; }

  std::string n(double x) { return e_.number(d_, x); }
  std::string add(const std::string& a, const std::string& b) { return e_.two("fadd", d_, a, b); }
  std::string sub(const std::string& a, const std::string& b) { return e_.two("fsub", d_, a, b); }
  std::string mul(const std::string& a, const std::string& b) { return e_.two("fmul", d_, a, b); }
  std::string div(const std::string& a, const std::string& b) { return e_.two("fdiv", d_, a, b); }
  std::string neg(const std::string& a) { return t_.let("fneg ", value_type(d_), " ", a); }
  std::string fma(const std::string& a, const std::string& b, const std::string& c) {
    return e_.intrinsic("fma", d_, {a, b, c});
  }
  std::string abs(const std::string& a) { return e_.magnitude(d_, a); }
  std::string when(std::string_view how, const std::string& a, const std::string& b,
                   const std::string& yes, const std::string& no) {
    return e_.choose(d_, e_.compared(how, d_, a, b), yes, no);
  }
  std::string call(std::string_view name, const std::string& x) {
    return t_.let("call ", value_type(d_), " ", gpu_function(name, d_), "(", value_type(d_), " ", x,
                  ")");
  }
  std::string whole(std::string_view operation, const std::string& a, const std::string& b) {
    return e_.two(operation, integer(), a, b);
  }
  std::string whole(std::int64_t x) { return e_.literal(bits_type(), x); }
  std::string to_bits(const std::string& x) {
    return e_.convert("bitcast", value_type(d_), x, bits_type());
  }
  std::string from_bits(const std::string& x) {
    return e_.convert("bitcast", bits_type(), x, value_type(d_));
  }
  /// `c[0] + x (c[1] + x (...))`
  std::string polynomial(const std::string& x, std::initializer_list<double> c) {
    const double* last = c.end() - 1;
    std::string y = n(*last);
    while (last != c.begin()) {
      y = fma(y, x, n(*--last));
    }
    return y;
  }
  /// `a` with the sign of `x`.
  std::string with_sign_of(const std::string& x, const std::string& a) {
    return when("fcmp olt", x, n(0), neg(a), a);
  }

  static constexpr double infinity = std::numeric_limits<double>::infinity();
  // ln 2 as the nearest number of the type, and what is missing.
  [[nodiscard]] double ln2() const { return wide() ? 0x1.62e42fefa39efp-1 : 0x1.62e43p-1; }
  [[nodiscard]] double ln2_rest() const { return wide() ? 0x1.abc9e3b39803fp-56 : -0x1.05c61p-29; }

  // --- the functions -----------------------------------------------------------------------------

  /// 2^n e^r with n = round(x / ln 2); e^r by its series. Of double.
  std::string exp() {
    std::string x = when("fcmp olt", "%x", n(-750), n(-750), "%x");
    x = when("fcmp ogt", x, n(750), n(750), x);
    const std::string shift = n(0x1.8p52);  // the last bit of what is added to it is that of 1
    const std::string t = fma(x, n(0x1.71547652b82fep0), shift);
    const std::string count = sub(t, shift);
    const std::string minus = neg(count);
    const std::string r = fma(minus, n(ln2_rest()), fma(minus, n(ln2()), x));
    std::string y = n(1.0 / 6227020800.0);  // 1 / 13!
    double factorial = 6227020800.0;
    for (int k = 13; k > 0; --k) {
      factorial /= k;
      y = fma(y, r, n(1.0 / factorial));
    }
    // Two factors, for 2^n itself may be no normal number.
    const std::string m = whole("sub", to_bits(t), to_bits(shift));
    const std::string half = whole("ashr", m, whole(1));
    for (const std::string& part : {half, whole("sub", m, half)}) {
      y = mul(y, from_bits(whole("shl", whole("add", part, whole(1023)), whole(52))));
    }
    return y;
  }

  /// x = 2^n (1 + f) with 1 + f around 1; with s = f / (2 + f), log(1 + f) is
  /// 2 s (1 + s^2 / 3 + s^4 / 5 + ...) = f - s (f - s^2 (2 / 3 + s^2 (2 / 5 + ...))).
  std::string log() {
    const std::string tiny = n(wide() ? 0x1p-1022 : 0x1p-126);
    const std::string scaled = when("fcmp olt", "%x", tiny, mul("%x", n(0x1p54)), "%x");
    const std::string off = when("fcmp olt", "%x", tiny, n(-54), n(0));
    const std::string bits = to_bits(scaled);
    const std::string place = whole(mantissa());
    const std::string root = whole(wide() ? 0x3fe6a09e667f3bcd : 0x3f3504f3);  // of 1/2
    const std::string m = whole("ashr", whole("sub", bits, root), place);
    const std::string f = sub(from_bits(whole("sub", bits, whole("shl", m, place))), n(1));
    const std::string count = add(e_.convert("sitofp", bits_type(), m, value_type(d_)), off);
    const std::string s = div(f, add(f, n(2)));
    const std::string z = mul(s, s);
    const int terms = wide() ? 11 : 5;
    std::string p = n(2.0 / (2 * terms + 1));
    for (int k = terms - 1; k > 0; --k) {
      p = fma(p, z, n(2.0 / (2 * k + 1)));
    }
    const std::string rest = mul(s, sub(f, mul(z, p)));
    const std::string y = fma(count, n(ln2()), sub(f, fma(neg(count), n(ln2_rest()), rest)));
    const std::string finite = when("fcmp olt", "%x", n(infinity), y, "%x");  // NaN stays
    const std::string negative =
        when("fcmp olt", "%x", n(0), n(std::numeric_limits<double>::quiet_NaN()), finite);
    return when("fcmp oeq", "%x", n(0), n(-infinity), negative);
  }

  /// Near 0 Lambert's continued fraction x / (1 + x^2 / (3 + x^2 / (5 + ...))), else
  /// 1 - 2 / (exp(2 |x|) + 1).
  std::string tanh() {
    const std::string a = abs("%x");
    const std::string z = mul(a, a);
    const int terms = wide() ? 9 : 5;
    std::string p = n(2 * terms + 1);
    std::string q = n(1);
    for (int k = terms - 1; k >= 0; --k) {
      const std::string next = fma(z, q, mul(n(2 * k + 1), p));
      q = p;
      p = next;
    }
    const std::string small = mul("%x", div(q, p));
    const std::string large =
        with_sign_of("%x", sub(n(1), div(n(2), add(call("exp", add(a, a)), n(1)))));
    return when("fcmp olt", a, n(0.55), small, large);
  }

  std::string erf() {
    const std::string a = abs("%x");
    if (!wide()) {  // the polynomials of simd::erf
      const std::string q = polynomial(
          mul("%x", "%x"),
          {1.2837915e-1, -3.7612525e-1, 1.12821415e-1, -2.6778933e-2, 5.0119907e-3, -6.0904847e-4});
      const std::string b = when("fcmp olt", a, n(4), a, n(4));
      const std::string p = polynomial(b, {-1.6643877e-4, -1.1277972, -6.36976e-1, -1.0411375e-1,
                                           2.2315249e-2, -3.0655002e-3, 1.9822075e-4});
      const std::string large = with_sign_of("%x", sub(n(1), call("exp", p)));
      const std::string y = when("fcmp olt", a, n(0.9), fma(q, "%x", "%x"), large);
      return when("fcmp uno", "%x", "%x", "%x", y);
    }
    // Below 2.5 the series 2 / sqrt(pi) x exp(-x^2) (1 + 2 x^2 / 3 (1 + 2 x^2 / 5 (...))), else
    // 1 - exp(-x^2) / sqrt(pi) / (x + 1/2 / (x + 2/2 / (x + 3/2 / ...))).
    const std::string b = when("fcmp olt", a, n(7), a, n(7));
    const std::string z = mul(b, b);
    const std::string lost = fma(b, b, neg(z));  // by rounding
    const std::string power = call("exp", neg(z));
    const std::string e = fma(neg(power), lost, power);
    std::string sum = n(1);
    for (int k = 44; k > 0; --k) {
      sum = fma(mul(z, n(2.0 / (2 * k + 1))), sum, n(1));
    }
    const std::string small = mul(mul(n(0x1.20dd750429b6dp0), "%x"), mul(e, sum));  // -0 stays
    std::string p = b;
    std::string q = n(1);
    for (int k = 26; k > 0; --k) {
      const std::string next = fma(b, p, mul(n(k * 0.5), q));
      q = p;
      p = next;
    }
    const std::string rest = mul(mul(n(0x1.20dd750429b6dp-1), e), div(q, p));
    const std::string large = with_sign_of("%x", sub(n(1), rest));
    const std::string y = when("fcmp olt", a, n(2.5), small, large);
    return when("fcmp uno", "%x", "%x", "%x", y);
  }

  dtype d_;
  text t_{};
  vector_values e_{t_, 1};
};

/// The functions that a module's text calls, and what they call themselves.
inline std::string gpu_functions(std::string_view bodies, std::set<std::string>& declared) {
  std::string all;
  for (const dtype d : {dtype::float32, dtype::float64}) {
    for (const std::string_view name : {"log", "tanh", "erf", "exp"}) {  // exp is called by others
      const std::string call = gpu_function(name, d) + "(";
      if (bodies.find(call) == std::string_view::npos && all.find(call) == std::string::npos) {
        continue;
      }
      if (name == "exp" && d == dtype::float32) {
        all += gpu_expf;
        declared.insert("declare float @llvm.fma.f32(float, float, float)");
      } else {
        all += gpu_math::definition(name, d, declared);
      }
    }
  }
  return all;
}

}  // namespace ashlar::chip::llvm_codegen
