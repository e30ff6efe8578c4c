#pragma once

#include <cstdint>
#include <string>

namespace cann_sim {

/// What one task computes and moves.
struct Cost {
  double flops = 0;             // of matrix products, a multiplication and an addition being two
  uint64_t hbm_bytes = 0;       // read and written in the card's memory, each byte once
  uint64_t hccs_bytes = 0;      // from or to other cards, whichever is more
  uint64_t hccs_one_bytes = 0;  // of these, with the card that has most
  uint64_t host_bytes = 0;      // from or to the host
};

/// A card's figures, each per second.
struct Card {
  const char* name;
  double flops;     // bf16
  double hbm;       // bytes
  double hccs_one;  // bytes, one way, with one other card
  double hccs;      // bytes, one way, with all
  double host;      // bytes, one way

  /// The time that a task takes where nothing but its slowest part counts (a roofline).
  double seconds(const Cost& cost) const;
};

/// "A2" or "A3"; "": A2. Throws Fault for another name.
const Card& card_of(const std::string& name);

}  // namespace cann_sim
