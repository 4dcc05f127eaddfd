// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Keeps what each op of a model computes.

#include "Values.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

using namespace hadal;
using namespace hadal::run;

ExitCode Values::open() {
  if (ExitCode code = DispatchRecorder::open("--values"))
    return code;
  for (size_t i = 0; i < table.rows.size(); ++i) {
    const DispatchRow &row = table.rows[i];
    std::vector<size_t> &places = entriesOfRow.emplace_back();
    // What was written in steps of other sizes is the same result.
    size_t other = i;
    while (other > 0 && table.rows[other - 1].op == row.op) {
      --other;
      if (table.rows[other].isAlternative &&
          table.rows[other].results.size() == row.results.size())
        places = entriesOfRow[other];
    }
    if (!places.empty() && !row.isAlternative)
      continue;
    places.clear();
    for (const DispatchRow::Result &result : row.results) {
      places.push_back(entries.size());
      entries.push_back({i, result.columns, {}});
    }
  }
  return Done;
}

void Values::record(const RecordedDispatch &dispatch) {
  dispatch.run();
  const DispatchRow &row = table.rows[dispatch.row];
  for (size_t i = 0; i < row.results.size(); ++i) {
    const DispatchRow::Result &result = row.results[i];
    Entry &entry = entries[entriesOfRow[dispatch.row][i]];
    entry.row = dispatch.row;
    auto *data =
        reinterpret_cast<const float *>(dispatch.params[result.argument]);
    for (int64_t r = 0; r < dispatch.rows; ++r)
      entry.values.insert(entry.values.end(), data + r * result.stride,
                          data + r * result.stride + result.columns);
  }
}

ExitCode Values::write(const std::string &path) const {
  std::string metadata = "{\"__metadata__\":{", header;
  uint64_t bytes = 0;
  for (size_t i = 0; i < entries.size(); ++i) {
    const Entry &entry = entries[i];
    if (entry.values.empty())
      continue;
    const DispatchRow &row = table.rows[entry.row];
    std::string name;
    appendFormat(name, "%06zu ", i);
    name += row.name;
    if (!header.empty())
      metadata += ',';
    appendJsonString(metadata, name);
    metadata += ':';
    appendJsonString(metadata, row.op + " " + row.kernel + " " + row.layer);
    header += ',';
    appendJsonString(header, name);
    uint64_t size = entry.values.size() * sizeof(float);
    appendFormat(header,
                 ":{\"dtype\":\"F32\",\"shape\":[%lld,%lld],"
                 "\"data_offsets\":[%llu,%llu]}",
                 static_cast<long long>(entry.values.size()) / entry.columns,
                 static_cast<long long>(entry.columns),
                 static_cast<unsigned long long>(bytes),
                 static_cast<unsigned long long>(bytes + size));
    bytes += size;
  }
  metadata += '}' + header + '}';
  // Data begins at a multiple of 8 bytes.
  metadata.append((8 - metadata.size() % 8) % 8, ' ');
  uint64_t length = metadata.size();
  FILE *file = fopen(path.c_str(), "wbe");
  bool good = file && fwrite(&length, sizeof(length), 1, file) == 1 &&
              fwrite(metadata.data(), metadata.size(), 1, file) == 1;
  for (const Entry &entry : entries)
    good = good && fwrite(entry.values.data(), sizeof(float),
                          entry.values.size(), file) == entry.values.size();
  int error = errno;
  if (file && fclose(file)) {
    error = good ? errno : error;
    good = false;
  }
  return good ? Done
              : reportError(BadInput, "%s: cannot write: %s", path.c_str(),
                            strerror(error));
}
