#include "core/profile.h"

namespace cann_sim {

const Profile& profile() {
  static const Profile value{"8.3", true, 128, false, false, false, "Ascend910B3"};
  return value;
}

}  // namespace cann_sim
