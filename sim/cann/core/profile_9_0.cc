#include "core/profile.h"

namespace cann_sim {

const Profile& profile() {
  static const Profile value{"9.0", true, 256, true, true, true, "Ascend910B3"};
  return value;
}

}  // namespace cann_sim
