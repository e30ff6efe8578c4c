#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace longspan::server {

/// Takes a stream of server-sent events apart.
class EventReader {
 public:
  /// `on_event` gets the data of each event that these bytes end, its lines joined by '\n'. Comments, and
  /// fields other than data, are skipped.
  void push(std::string_view bytes, const std::function<void(std::string_view data)>& on_event);

 private:
  std::string line_;  // begun
  std::string data_;  // of the event that has begun
  bool has_data_ = false;
};

}  // namespace longspan::server
