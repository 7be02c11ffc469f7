// The family hard-point-robot-aligned: touch a first goal at 0.5 m, then stay at a second one at 1 m, both in one
// direction on the half circle. Which of the two is due is not observed. Lengths are in m.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

struct After {
  std::vector<float> observation;
  float reward;
  bool truncated;
};

class HardPointRobotAligned {
 public:
  // angle: direction of both goals in radians, 0 to pi. The agent never sees it.
  explicit HardPointRobotAligned(double angle) : x_goal_(std::cos(angle)), y_goal_(std::sin(angle)) {}

  std::vector<float> Reset() {
    x_ = y_ = 0.0;
    touched_ = false;
    steps_ = 0;
    return Observation();
  }

  template <typename Action>
  After Step(const Action& action) {
    x_ += std::clamp<double>(action[0], -kStride, kStride);
    y_ += std::clamp<double>(action[1], -kStride, kStride);
    const double to_first = std::hypot(x_ - x_goal_ / 2, y_ - y_goal_ / 2);
    const double to_second = std::hypot(x_ - x_goal_, y_ - y_goal_);
    const double searching = to_first <= kRadius ? 1 - to_first : 0;
    const double staying = to_second <= kRadius ? 6 - to_second : 1;
    const double reward = touched_ ? staying : searching;
    touched_ = touched_ || to_first <= kRadius / 2;
    return {Observation(), static_cast<float>(reward), ++steps_ >= kHorizon};
  }

 private:
  static constexpr double kStride = 0.1;  // most that a step moves along each axis
  static constexpr double kRadius = 0.3;  // a goal pays within it
  static constexpr int kHorizon = 32;     // steps of an episode

  std::vector<float> Observation() const { return {static_cast<float>(x_), static_cast<float>(y_)}; }

  double x_goal_, y_goal_, x_ = 0.0, y_ = 0.0;
  bool touched_ = false;
  int steps_ = 0;
};
