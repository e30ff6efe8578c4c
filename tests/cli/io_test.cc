#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sstream>

#include "cli/cli_test_base.h"
#include "cli/engine_report.h"
#include "cli/input_file.h"
#include "cli/json_out.h"
#include "cli/output_file.h"
#include "cli/process.h"
#include "cli/progress.h"

namespace longspan::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Status = LineReader::Status;

class FileTest : public CliTest {};

std::string io_error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& e) {
    return std::string(to_string(e.code())) + ": " + e.what();
  }
  return "no error";
}

std::vector<std::string> read_lines(InputFile& file, size_t max_bytes) {
  LineReader reader(file, max_bytes);
  std::vector<std::string> lines;
  for (std::string line;;) {
    const Status status = reader.next(line, 1000);
    if (status == Status::kEnd) return lines;
    lines.push_back(status == Status::kLine ? line : "TOO LONG");
  }
}

// A read that a signal ends is tried again, unless the signal was an interrupt.
TEST_F(FileTest, AnInterruptEndsAReadOfEverything) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_NONBLOCK), 0);  // a read of it returns as one that a signal ended does
  ASSERT_EQ(write(ends[1], "ab", 2), 2);
  InputFile file("-", ends[0]);
  int reads = 0;
  EXPECT_EQ(io_error_of([&] { file.read_all([&] { return ++reads == 3; }); }), "cancelled: interrupted");
  EXPECT_EQ(reads, 3);
  close(ends[1]);
  EXPECT_EQ(file.read_all(), "");
  close(ends[0]);
}

TEST_F(FileTest, ReadsLinesOfEveryShape) {
  const auto lines = [&](const std::string& text, size_t max_bytes = 1000) {
    write_file(path("f"), text);
    InputFile file(path("f"), -1);
    return read_lines(file, max_bytes);
  };
  EXPECT_THAT(lines(""), ElementsAre());
  EXPECT_THAT(lines("a"), ElementsAre("a"));
  EXPECT_THAT(lines("a\n"), ElementsAre("a"));
  EXPECT_THAT(lines("a\r\n\nb"), ElementsAre("a", "", "b"));
  EXPECT_THAT(lines("\n\n"), ElementsAre("", ""));
  EXPECT_THAT(lines("abcd\nabc\nabcde", 3), ElementsAre("TOO LONG", "abc", "TOO LONG"));
  // Longer than one read, and far over the limit.
  const std::string big(300000, 'x');
  EXPECT_THAT(lines(big + "\ny", 1 << 20), ElementsAre(big, "y"));
  EXPECT_THAT(lines(big + "\ny\n" + big, 1000), ElementsAre("TOO LONG", "y", "TOO LONG"));
}

TEST_F(FileTest, APipeIsReadAsItFills) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  InputFile file("-", ends[0]);
  LineReader reader(file, 100);
  std::string line;
  EXPECT_EQ(reader.next(line, 0), Status::kNotYet);
  ASSERT_EQ(write(ends[1], "ab", 2), 2);
  EXPECT_EQ(reader.next(line, 0), Status::kNotYet);
  ASSERT_EQ(write(ends[1], "c\nd", 3), 3);
  EXPECT_EQ(reader.next(line, 0), Status::kLine);
  EXPECT_EQ(line, "abc");
  EXPECT_EQ(reader.next(line, 0), Status::kNotYet);
  close(ends[1]);
  EXPECT_EQ(reader.next(line, 0), Status::kLine);
  EXPECT_EQ(line, "d");
  EXPECT_EQ(reader.next(line, 0), Status::kEnd);
  close(ends[0]);
}

TEST_F(FileTest, UnreadableInputs) {
  EXPECT_THAT(io_error_of([&] { InputFile(path("none"), -1); }),
              HasSubstr("unreadable: can't read " + path("none")));
  EXPECT_THAT(io_error_of([&] { InputFile(folder_.string(), -1); }), HasSubstr("it is a folder"));
}

TEST_F(FileTest, OutputKeepsWhatIsThereUntilTruncated) {
  write_file(path("o"), "old results\n");
  std::ostringstream unused;
  {
    OutputFile file(path("o"), unused, -1);
    EXPECT_EQ(read_file(path("o")), "old results\n");
    file.truncate();
    file.write_line("a");
    file.write_line("b");
  }
  EXPECT_EQ(read_file(path("o")), "a\nb\n");
}

TEST_F(FileTest, OutputErrors) {
  std::ostringstream unused;
  EXPECT_THAT(io_error_of([&] { OutputFile(path("no/o"), unused, -1); }),
              HasSubstr("unreadable: can't write"));
  EXPECT_THAT(io_error_of([&] { OutputFile(folder_.string(), unused, -1); }),
              HasSubstr("unreadable: can't write"));
  OutputFile full("/dev/full", unused, -1);
  full.truncate();
  EXPECT_THAT(io_error_of([&] { full.write_line("x"); }),
              HasSubstr("unreadable: can't write /dev/full: No space left"));
  write_file(path("same"), "x");
  InputFile input(path("same"), -1);
  EXPECT_THAT(io_error_of([&] { OutputFile(path("same"), unused, input.fd()); }), HasSubstr("usage: "));
  EXPECT_EQ(read_file(path("same")), "x");
}

TEST(JsonOut, Texts) {
  EXPECT_EQ(json_string("a\"\\\n\t\r\x01\x7F"), R"("a\"\\\n\t\r\u0001\u007f")");
  EXPECT_EQ(json_string("é🙂"), "\"é🙂\"");
  EXPECT_EQ(json_string("a\xff\xffz"), "\"a\xEF\xBF\xBD\xEF\xBF\xBDz\"");
  EXPECT_EQ(json_string("é\xC3"), "\"é\xEF\xBF\xBD\"");
  EXPECT_EQ(json_number(0.1), "0.1");
  EXPECT_EQ(json_number(0.1f), "0.1");
  EXPECT_EQ(json_number(INFINITY), "null");
  EXPECT_EQ(json_number(NAN), "null");
  EXPECT_EQ(json_array({"1", "[]"}), "[1,[]]");
  EXPECT_EQ(JsonObject().set("a", 1).set("b", true).set("c", "x").set("d", JsonObject()).str(),
            R"({"a":1,"b":true,"c":"x","d":{}})");
}

TEST(EngineReport, Texts) {
  EXPECT_EQ(bytes_text(0), "unknown");
  EXPECT_EQ(bytes_text(1000), "1000 B");
  EXPECT_EQ(bytes_text(1536), "1.5 KiB");
  EXPECT_EQ(bytes_text(int64_t{3} << 30), "3.0 GiB");
  EXPECT_EQ(per_second(500, 250), 2000);
  EXPECT_EQ(per_second(500, 0), 0);
  EXPECT_EQ(rate_text(1234.5), "1234 tokens/s");
  EXPECT_EQ(rate_text(12.34), "12.3 tokens/s");
}

TEST(Process, PeakMemoryIsPlausible) {
  EXPECT_GT(peak_memory_bytes(), int64_t{1} << 20);
  EXPECT_LT(peak_memory_bytes(), int64_t{1} << 40);
}

TEST(Progress, LinesNowAndThen) {
  std::ostringstream err;
  double now = 0;
  PrefillProgress progress(err, false, [&] { return now; });
  for (int i = 1; i <= 100; ++i) progress.update({1000, 0, i * 10, i * 1.0});
  // At the start, then at every tenth.
  EXPECT_EQ(lines_of(err.str()).size(), 11u);
  EXPECT_EQ(lines_of(err.str()).back(), "prefill 1000/1000 tokens, 10000 tokens/s");
  EXPECT_EQ(err.str().find('\033'), std::string::npos);
}

TEST(Progress, RatesLeaveCachedTokensOut) {
  EXPECT_EQ(progress_text({12345, 1000, 5000, 2000}),
            "prefill 5000/12345 tokens (1000 cached), 2000 tokens/s, ETA 3.7 s");
  EXPECT_EQ(progress_text({10, 0, 0, 0}), "prefill 0/10 tokens");
}

TEST(Progress, ABarOnATerminal) {
  std::ostringstream err;
  double now = 0;
  PrefillProgress progress(err, true, [&] { return now += 1; });
  progress.update({100, 0, 50, 10});
  EXPECT_EQ(err.str(), "\r\033[K[############............] prefill 50/100 tokens, 5000 tokens/s, ETA 0.0 s");
  progress.clear();
  EXPECT_TRUE(err.str().ends_with("\r\033[K"));
  const size_t size = err.str().size();
  progress.clear();
  EXPECT_EQ(err.str().size(), size);
}

}  // namespace
}  // namespace longspan::cli
