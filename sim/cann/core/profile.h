#pragma once

namespace cann_sim {

/// What differs between the CANN releases that are imitated. Which symbols exist follows from the libraries
/// that a profile's folder holds.
struct Profile {
  const char* version;       // "8.1"
  bool tnd_grouped_heads;    // fused attention takes TND with equal dims of q, k and v at all
  int tnd_head_dims_up_to;   // 128: 64 and 128 only; 256: any multiple of 16
  bool tnd_fp16;             // else bf16 only
  bool unquantised_pairs;    // grouped products of fp16 and bf16 take (group, rows) pairs
  bool strict_query_tokens;  // the last cumulative query length must equal T
  const char* soc;
};

/// Of the folder that this library lies in.
const Profile& profile();

}  // namespace cann_sim
