// coefficients.hpp - printed by tools/minimax.py, which says how they are found.
#pragma once

namespace csoftmax {

template <class T> struct Coefficients;
template <> struct Coefficients<float> {
    // ln 2 in three words, the first of 13 bits
    static constexpr float LN2[] = {0x1.62ep-1f, 0x1.0bfbe8p-15f, 0x1.cf79acp-40f};
    // (exp(r) - 1 - r) / r^2, |r| <= ln(2)/2: error 0.032 ULP of exp(r), with all
    // roundings less than 0.931 ULP (1.23 without fused products)
    static constexpr float EXP[] = {0x1.fffffcp-2f, 0x1.555492p-3f, 0x1.5558f2p-5f, 0x1.1239e2p-7f,
        0x1.6a247ap-10f};
    // L(z) in log((1+s)/(1-s)) = 2s + s z L(z), z = s^2: error 0.0037 ULP
    static constexpr float LOG[] = {0x1.555554p-1f, 0x1.999a7ap-2f, 0x1.2438ecp-2f, 0x1.e2f38cp-3f};
    // 1/n!, n = 0, 1, ...
    static constexpr float FACTORIAL[] = {0x1p+0f, 0x1p+0f, 0x1p-1f, 0x1.555556p-3f, 0x1.555556p-5f,
        0x1.111112p-7f, 0x1.6c16c2p-10f, 0x1.a01a02p-13f, 0x1.a01a02p-16f, 0x1.71de3ap-19f,
        0x1.27e4fcp-22f, 0x1.ae6456p-26f, 0x1.1eed8ep-29f, 0x1.612462p-33f};
    // and what their rounding lost, where that matters
    static constexpr float FACTORIAL_ERROR[] = {0x0p+0f, 0x0p+0f, 0x0p+0f, -0x1.555556p-28f,
        -0x1.555556p-30f, -0x1.dddddep-32f, -0x1.27d27ep-35f, -0x1.7f97fap-39f};
};
template <> struct Coefficients<double> {
    // ln 2 in three words, the first of 39 bits
    static constexpr double LN2[] = {0x1.62e42fefa4p-1, -0x1.8432a1b0e2634p-43,
        0x1.f97b57a079a19p-103};
    // (exp(r) - 1 - r) / r^2, |r| <= ln(2)/2: error 0.048 ULP of exp(r), with all
    // roundings less than 0.954 ULP (1.25 without fused products)
    static constexpr double EXP[] = {0x1.000000000000ap-1, 0x1.55555555554fap-3,
        0x1.555555555087cp-5, 0x1.1111111127beap-7, 0x1.6c16c1842a18fp-10, 0x1.a01a012a559b1p-13,
        0x1.a0199a0c5affdp-16, 0x1.71df255761396p-19, 0x1.28ad72d3fa16fp-22, 0x1.ad7f6655530e7p-26};
    // L(z) in log((1+s)/(1-s)) = 2s + s z L(z), z = s^2: error 0.0025 ULP
    static constexpr double LOG[] = {0x1.5555555555555p-1, 0x1.999999999998ep-2,
        0x1.24924924939ap-2, 0x1.c71c71c4c0e37p-3, 0x1.745d18775f358p-3, 0x1.3b1353f3694f5p-3,
        0x1.1122900b3c584p-3, 0x1.ddf2cbd771b69p-4, 0x1.ece94eef47148p-4};
    // 1/n!, n = 0, 1, ...
    static constexpr double FACTORIAL[] = {0x1p+0, 0x1p+0, 0x1p-1, 0x1.5555555555555p-3,
        0x1.5555555555555p-5, 0x1.1111111111111p-7, 0x1.6c16c16c16c17p-10, 0x1.a01a01a01a01ap-13,
        0x1.a01a01a01a01ap-16, 0x1.71de3a556c734p-19, 0x1.27e4fb7789f5cp-22, 0x1.ae64567f544e4p-26,
        0x1.1eed8eff8d898p-29, 0x1.6124613a86d09p-33, 0x1.93974a8c07c9dp-37, 0x1.ae7f3e733b81fp-41,
        0x1.ae7f3e733b81fp-45, 0x1.952c77030ad4ap-49, 0x1.6827863b97d97p-53, 0x1.2f49b46814157p-57,
        0x1.e542ba4020225p-62, 0x1.71b8ef6dcf572p-66, 0x1.0ce396db7f853p-70, 0x1.761b41316381ap-75};
    // and what their rounding lost, where that matters
    static constexpr double FACTORIAL_ERROR[] = {0x0p+0, 0x0p+0, 0x0p+0, 0x1.5555555555555p-57,
        0x1.5555555555555p-59, 0x1.1111111111111p-63, -0x1.f49f49f49f49fp-65, 0x1.a01a01a01a01ap-73,
        0x1.a01a01a01a01ap-76, -0x1.c154f8ddc6cp-73, 0x1.cbbc05b4fa99ap-76, -0x1.c062e06d1f209p-80,
        -0x1.2aec959e14c06p-83, 0x1.f28e0cc748ebep-87};
};

}  // namespace csoftmax
