#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>

#include "server/metrics.h"

namespace longspan::server {
namespace {

// Samples of /metrics by name, with the names of their labels.
std::map<std::string, std::set<std::string>> exported() {
  Metrics metrics("m");
  metrics.on_result({});
  metrics.on_token_gap(0.01);
  metrics.on_refusal(400);
  const EngineLoop::Snapshot snapshot;
  const std::string text = metrics.text(&snapshot);
  std::map<std::string, std::set<std::string>> samples;
  const std::regex sample("(^|\n)([a-z_]+)\\{([^}]*)\\}"), label("([a-z]+)=\"");
  for (std::sregex_iterator it(text.begin(), text.end(), sample), end; it != end; ++it) {
    const std::string labels = (*it)[3];
    for (std::sregex_iterator l(labels.begin(), labels.end(), label); l != end; ++l)
      samples[(*it)[2]].insert((*l)[1]);
  }
  return samples;
}

TEST(Dashboard, ShowsMetricsThatThereAre) {
  std::ifstream file(LONGSPAN_SOURCE_DIR "/packaging/grafana-dashboard.json");
  const nlohmann::json dashboard = nlohmann::json::parse(file);
  const auto samples = exported();
  std::set<int> ids;
  size_t shown = 0;
  for (const auto& panel : dashboard.at("panels")) {
    EXPECT_TRUE(ids.insert(panel.at("id").get<int>()).second) << "an id twice";
    for (const auto& target : panel.at("targets")) {
      const std::string expression = target.at("expr");
      const std::regex metric("longspan_[a-z_]+"), by("by \\(([a-z]+)\\)");
      std::set<std::string> labels = {"model"};
      for (std::sregex_iterator it(expression.begin(), expression.end(), by), end; it != end; ++it)
        labels.insert((*it)[1]);
      size_t metrics = 0;
      for (std::sregex_iterator it(expression.begin(), expression.end(), metric), end; it != end; ++it) {
        ++metrics;
        const auto found = samples.find(it->str());
        ASSERT_NE(found, samples.end()) << it->str() << " in " << expression;
        for (const std::string& name : labels) EXPECT_TRUE(found->second.contains(name)) << expression;
      }
      EXPECT_GT(metrics, 0u) << expression;
      shown += metrics;
    }
  }
  EXPECT_GT(shown, 10u);
}

}  // namespace
}  // namespace longspan::server
