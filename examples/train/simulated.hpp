// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ashlar/comm/network.hpp>
#include <string>
#include <vector>

#include "train/rank.hpp"

namespace train {

/// The network that `--transport simulated` asks for.
struct network_options {
  std::string shape = "ring";  ///< dimensions, the first one fastest: full=4,ring=2
  std::vector<double> latency = {1e-6}, bandwidth = {25e9};  ///< of each dimension, or of all
  double overhead = 1e-6;                                    ///< per message
  double packet_bytes = 0;                                   ///< 0: messages are stored at each hop
  std::string compute = "npu";             ///< or measured: by the time that its thread works
  double flops = 0, memory_bandwidth = 0;  ///< in place of the accelerator's; 0: those
  std::string timeline;                    ///< file for the last step; empty: none
};

/// Returns: the network for as many ranks. Throws: `std::runtime_error` for one that is not.
al::comm::network network_of(const network_options& o, int ranks);

/// Trains on threads and runs what they did on the network; says on stdout what a step takes there.
///
/// Returns: what the first rank has, the same bits as on threads.
outcome run_simulated(const options& o, const network_options& network);

}  // namespace train
