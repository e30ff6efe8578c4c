#pragma once

namespace longspan::testing_support {

/// Whether FULL_TESTS=1 asks for whole matrices instead of parts of them.
bool full_tests();

}  // namespace longspan::testing_support
