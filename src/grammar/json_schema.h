#pragma once

#include <longspan/error.h>

#include <string>

#include "grammar/grammar.h"

namespace longspan {

/// A schema that is none, or has what is not supported.
class SchemaError : public Error {
 public:
  SchemaError(std::string place, const std::string& why)
      : Error(ErrorCode::kInvalidRequest, "json_schema" + place + ": " + why),
        place_(std::move(place)),
        why_(why) {}
  const std::string& place() const { return place_; }  // ".properties.name.pattern"; "": the whole
  const std::string& why() const { return why_; }

 private:
  std::string place_, why_;
};

/// The JSON texts of values that fit a JSON Schema, as a grammar. Every text of the grammar fits; the other
/// way it has fewer: members come in the order of `properties` and none that is not named there, strings of
/// `enum` and `const` in one spelling, and what JsonRules says of white space and numbers. Read: type (one or
/// a list), enum, const, anyOf, $ref to "#", "#/$defs/NAME" and "#/definitions/NAME"; properties, required,
/// additionalProperties; items, minItems, maxItems; minLength, maxLength. Titles, descriptions and the like
/// are skipped. Throws SchemaError for any other keyword, for a schema that nothing fits, and for one that is
/// too large.
Grammar compile_json_schema(const std::string& schema);

}  // namespace longspan
