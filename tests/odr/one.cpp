// SPDX-License-Identifier: Apache-2.0
#include "every_header.hpp"

int other_unit();

int main() { return other_unit(); }
