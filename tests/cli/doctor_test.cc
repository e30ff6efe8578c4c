#include <gmock/gmock.h>

#include "cli/cli_test_base.h"

namespace longspan::cli {
namespace {

using testing::HasSubstr;

class Doctor : public CliTest {};

TEST_F(Doctor, ChecksEveryOp) {
  const CliResult result = run({"doctor"});
  EXPECT_EQ(result.code, kExitOk) << result.out << result.err;
  EXPECT_THAT(result.out, HasSubstr("attention, not causal"));
  EXPECT_THAT(result.out, testing::Not(HasSubstr("wrong")));
}

TEST_F(Doctor, TellsMachines) {
  const CliResult result = run({"doctor", "--backend", "reference", "--json"});
  EXPECT_EQ(result.code, kExitOk);
  EXPECT_EQ(json_at(result.out, "/device"), "\"reference bf16\"");
  EXPECT_EQ(json_at(result.out, "/ops/0/op"), "\"embedding\"");
  EXPECT_EQ(json_at(result.out, "/ops/0/ok"), "true");
}

// One message, whether the toolkit is missing or half there.
TEST_F(Doctor, SaysWhatIsMissing) {
  setenv("ASCEND_HOME_PATH", folder_.c_str(), 1);
  const CliResult result = run({"doctor", "--backend", "ascend"});
  unsetenv("ASCEND_HOME_PATH");
  EXPECT_EQ(result.code, kExitUsage);
  EXPECT_THAT(result.err,
              testing::AllOf(HasSubstr("no ACL runtime"), HasSubstr(path("lib64/libascendcl.so"))));
  EXPECT_EQ(lines_of(result.err).size(), 1u);
}

}  // namespace
}  // namespace longspan::cli
