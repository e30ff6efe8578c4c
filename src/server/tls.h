#pragma once

#include <memory>
#include <string>

#include "server/byte_stream.h"

namespace longspan::server {

/// What a server shows to its clients: TLS 1.2 and 1.3.
class Tls {
 public:
  /// PEM files: the certificate, with those between it and a root after it, and its key without a passphrase.
  /// Throws Error: kUnreadable for a file that can't be read or holds none, kUsage for a key of another
  /// certificate.
  Tls(const std::string& certificate_file, const std::string& key_file);
  ~Tls();

  std::unique_ptr<ByteStream> stream(tcp::socket socket);

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

}  // namespace longspan::server
