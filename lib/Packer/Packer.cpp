// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Writes the weights file of a compiled model.

#include "lib/Packer/Packer.h"

#include "dialects/DeepSeek/IR/DeepSeekOps.h"
#include "dialects/RT/IR/RTOps.h"
#include "lib/Packer/Recipe.h"
#include "lib/Support/CheckedMath.h"
#include "runtime/include/hadal_rt/abi.h"

#include "absl/strings/str_cat.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"

#include <condition_variable>
#include <cstddef>
#include <cstring>
#include <memory>
#include <mutex>
#include <thread>

using namespace mlir;
using namespace hadal;

absl::StatusOr<int64_t> hadal::getStoredBytes(Operation *op) {
  auto type = cast<deepseek::WeightOp>(op).getWeightType();
  SmallVector<int64_t> factors(type.getShape());
  if (auto tiled = dyn_cast_or_null<deepseek::TiledAttr>(type.getEncoding())) {
    int64_t &rows = factors[factors.size() - 2];
    if (std::optional<int64_t> sum = checkedSum(rows, tiled.getRows() - 1))
      rows = *sum / tiled.getRows() * tiled.getRows();
  }
  std::optional<ElementKind> kind = getElementKind(type.getElementType());
  if (kind && bitsOf(*kind) < 8) {
    // Only tiles share bytes, and those have whole words.
    int64_t columns = deepseek::getTileColumns(bitsOf(*kind));
    if (isa_and_nonnull<deepseek::TiledAttr>(type.getEncoding()))
      factors.back() = factors.back() / columns * (columns * bitsOf(*kind) / 8);
    else
      kind = std::nullopt;
  } else if (kind) {
    factors.push_back(sizeBytes(*kind));
  }
  std::optional<int64_t> bytes = checkedProduct(factors);
  if (kind && bytes)
    return *bytes;
  std::string text;
  llvm::raw_string_ostream(text) << type;
  return absl::InvalidArgumentError(
      absl::StrCat("a weight of type ", text, " cannot be stored"));
}

namespace {

/// Part of the section, from one place in it to another. Its bytes are aligned
/// as they are in the section, so that elements are.
struct Chunk {
  static constexpr size_t alignment = alignof(std::max_align_t);

  std::unique_ptr<char[]> buffer;
  size_t begin = 0, end = 0; ///< Of what is in use, in `buffer`.
};

/// Appends to a file by blocks that end at multiples of their size. A system
/// that caches what one write brings in one page then has huge ones, which is
/// what a program that maps the file reads fastest.
class BlockWriter {
public:
  explicit BlockWriter(AtomicFile &output) : output(output) {}

  bool write(const char *data, uint64_t bytes, std::string &error) {
    while (bytes > 0) {
      uint64_t room = blockBytes - (output.size() + rest.size()) % blockBytes,
               now;
      if (rest.empty() && bytes >= room) {
        now = bytes - (output.size() + bytes) % blockBytes;
        if (!output.write(data, now, error))
          return false;
      } else {
        now = std::min(room, bytes);
        rest.append(data, data + now);
        if (now == room && !flush(error))
          return false;
      }
      data += now;
      bytes -= now;
    }
    return true;
  }

  bool flush(std::string &error) {
    bool isGood = output.write(rest.data(), rest.size(), error);
    rest.clear();
    return isGood;
  }

private:
  static constexpr uint64_t blockBytes = 2 << 20;

  AtomicFile &output;
  SmallVector<char, 0> rest;
};

/// Writes chunks on a thread of its own, while the next one is computed.
class ChunkWriter {
public:
  ChunkWriter(AtomicFile &file, size_t chunkBytes) : output(file) {
    pending.buffer.reset(new char[chunkBytes + Chunk::alignment]);
    thread = std::thread([this] { run(); });
  }

  ~ChunkWriter() {
    {
      std::lock_guard<std::mutex> lock(mutex);
      isDone = true;
    }
    changed.notify_all();
    thread.join();
  }

  /// Takes \p chunk for writing and leaves a free buffer in its place. False if
  /// an earlier chunk could not be written.
  bool write(Chunk &chunk) {
    std::unique_lock<std::mutex> lock(mutex);
    changed.wait(lock, [&] { return !isFull; });
    std::swap(pending, chunk);
    isFull = true;
    changed.notify_all();
    return error.empty();
  }

  /// Waits for the last chunk; returns what went wrong, or nothing.
  std::string flush() {
    std::unique_lock<std::mutex> lock(mutex);
    changed.wait(lock, [&] { return !isFull; });
    if (error.empty())
      (void)output.flush(error);
    return error;
  }

private:
  void run() {
    std::unique_lock<std::mutex> lock(mutex);
    while (true) {
      changed.wait(lock, [&] { return isFull || isDone; });
      if (!isFull)
        return;
      bool isGood = error.empty();
      std::string message;
      lock.unlock();
      if (isGood)
        (void)output.write(pending.buffer.get() + pending.begin,
                           pending.end - pending.begin, message);
      lock.lock();
      if (!message.empty())
        error = message;
      isFull = false;
      changed.notify_all();
    }
  }

  BlockWriter output;
  std::mutex mutex;
  std::condition_variable changed;
  Chunk pending;
  std::string error;
  bool isFull = false, isDone = false;
  std::thread thread;
};

/// Fills chunks of a fixed size and hands the full ones to a writer.
class ChunkFiller {
public:
  ChunkFiller(AtomicFile &output, size_t chunkBytes)
      : writer(output, chunkBytes), chunkBytes(chunkBytes) {
    chunk.buffer.reset(new char[chunkBytes + Chunk::alignment]);
  }

  /// Bytes that were filled so far.
  uint64_t size() const { return filled; }

  /// Bytes that the chunk has left.
  size_t getRoom() const { return chunkBytes - (chunk.end - chunk.begin); }

  /// The size of a chunk.
  int64_t getChunkBytes() const { return int64_t(chunkBytes); }

  /// Room for \p bytes more, no more than the chunk has left.
  char *reserve(size_t bytes) {
    char *begin = chunk.buffer.get() + chunk.end;
    chunk.end += bytes;
    filled += bytes;
    return begin;
  }

  /// Hands the chunk over and starts the next one.
  absl::Status flush() {
    bool isGood = writer.write(chunk);
    chunk.begin = chunk.end = filled % Chunk::alignment;
    return isGood ? absl::OkStatus() : finish();
  }

  absl::Status zeros(uint64_t bytes) {
    while (bytes > 0) {
      auto now = size_t(std::min<uint64_t>(bytes, getRoom()));
      std::memset(reserve(now), 0, now);
      bytes -= now;
      if (!getRoom()) {
        absl::Status status = flush();
        if (!status.ok())
          return status;
      }
    }
    return absl::OkStatus();
  }

  /// Waits until all is written.
  absl::Status finish() {
    if (chunk.end > chunk.begin) {
      (void)writer.write(chunk);
      chunk.begin = chunk.end = filled % Chunk::alignment;
    }
    std::string error = writer.flush();
    return error.empty() ? absl::OkStatus() : absl::InvalidArgumentError(error);
  }

private:
  ChunkWriter writer;
  size_t chunkBytes;
  Chunk chunk;
  uint64_t filled = 0;
};

/// A weight and its place.
struct Place {
  deepseek::WeightOp weight;
  int64_t offset;
  int64_t bytes; ///< With those of `beside`.
  /// Weights that share its records, by where they are in them.
  std::vector<deepseek::WeightOp> beside;
};

/// A weight whose elements are put into records.
struct Member {
  RecipeNode *node;
  int64_t elements; ///< Of a record.
  int64_t begin;    ///< In the record, in bytes.

  int64_t getBytes() const { return elements * node->getElementBytes(); }
};

} // namespace

/// Prefixes \p status, if it is none, with the weight that it is about.
static absl::Status annotate(deepseek::WeightOp weight,
                             const absl::Status &status) {
  if (status.ok())
    return status;
  return absl::Status(status.code(),
                      absl::StrCat("weight '", weight.getSymName().str(),
                                   "': ", status.message()));
}

/// The weights to pack, by offset; they lie in [0, \p totalBytes) and do not
/// overlap.
static absl::StatusOr<std::vector<Place>> findPlaces(ModuleOp module,
                                                     int64_t totalBytes) {
  std::vector<Place> places;
  llvm::StringMap<std::vector<deepseek::WeightOp>> beside;
  for (auto weight : module.getOps<deepseek::WeightOp>()) {
    auto offset = weight->getAttrOfType<IntegerAttr>(weightOffsetAttrName);
    if (!offset)
      continue;
    absl::StatusOr<int64_t> bytes = getStoredBytes(weight);
    if (!bytes.ok())
      return annotate(weight, bytes.status());
    if (std::optional<StringRef> base = weight.getBeside()) {
      beside[*base].push_back(weight);
      continue;
    }
    if (deepseek::RecordAttr record = weight.getRecord()) {
      std::optional<int64_t> all =
          checkedProduct({weight.getTileCount(), record.getTiles(),
                          weight.getTileRecords(), record.getBytes()});
      if (!all)
        return annotate(weight, absl::InvalidArgumentError(
                                    "has records of more than 2^63 bytes"));
      bytes = *all;
    }
    places.push_back({weight, offset.getInt(), *bytes, {}});
  }
  for (Place &place : places) {
    auto found = beside.find(place.weight.getSymName());
    if (found == beside.end())
      continue;
    place.beside = std::move(found->second);
    beside.erase(found);
    llvm::sort(place.beside, [](deepseek::WeightOp a, deepseek::WeightOp b) {
      return *a.getAt() < *b.getAt();
    });
  }
  if (!beside.empty())
    return annotate(
        beside.begin()->second.front(),
        absl::InvalidArgumentError(absl::StrCat(
            "expects '", beside.begin()->first().str(), "' to have a place")));
  llvm::sort(places, [](const Place &a, const Place &b) {
    return a.offset < b.offset;
  });
  int64_t end = 0;
  for (const Place &place : places) {
    if (place.offset < end || place.offset % rt::alignmentBytes != 0 ||
        place.bytes > totalBytes - place.offset)
      return annotate(
          place.weight,
          absl::InvalidArgumentError(absl::StrCat(
              "expects a place of ", place.bytes, " bytes from ", end, " to ",
              totalBytes, ", aligned to ", int64_t(rt::alignmentBytes),
              ", but got ", place.offset)));
    end = place.offset + place.bytes;
  }
  return places;
}

/// Bytes of tiles that are made of one weight, then of the next that shares
/// their records: they stay in a cache.
constexpr int64_t recordRoom = 1 << 20;

/// Evaluates weights that share records into \p filler, whose chunks are no
/// smaller than a record.
static absl::Status packRecords(const Place &place, SourceFiles &files,
                                ChunkFiller &filler,
                                llvm::function_ref<void()> progress) {
  deepseek::WeightOp base = place.weight;
  int64_t recordBytes = base.getRecord().getBytes();
  int64_t ofTile = base.getTileRecords(), tiles = base.getTileCount();
  int64_t halfBytes = ofTile * recordBytes;
  // Those of each tile that alternates.
  std::vector<Recipe> recipes;
  std::vector<std::vector<Member>> members(size_t(base.getRecord().getTiles()));
  std::vector<deepseek::WeightOp> weights = {base};
  llvm::append_range(weights, place.beside);
  for (deepseek::WeightOp weight : weights) {
    absl::StatusOr<Recipe> recipe = makeRecipe(weight, files);
    if (!recipe.ok())
      return annotate(weight, recipe.status());
    RecipeNode *node = recipe->result;
    int64_t at = int64_t(weight.getAt().value_or(0));
    std::vector<Member> &here = members[size_t(at / halfBytes)];
    Member member = {node, node->getCount() / (tiles * ofTile), at % halfBytes};
    int64_t free =
        here.empty() ? 0 : here.back().begin + here.back().getBytes();
    if (node->getCount() % (tiles * ofTile) != 0 || member.begin < free ||
        member.begin + member.getBytes() > recordBytes)
      return annotate(weight,
                      absl::InternalError(absl::StrCat(
                          "expects ", member.getBytes(),
                          " bytes of a record of ", recordBytes, " from ", free,
                          " on, but got them at ", member.begin)));
    here.push_back(member);
    recipes.push_back(std::move(*recipe));
  }
  // A weight that nothing reads leaves zeros.
  int64_t filled = 0;
  for (ArrayRef<Member> here : members)
    for (const Member &member : here)
      filled += member.getBytes();
  bool hasGaps = filled != recordBytes * int64_t(members.size());

  // Records [first, first + count) of each of \p now tiles, whole ones if they
  // are several.
  SmallVector<char, 0> buffer;
  auto packSome = [&](int64_t tile, int64_t now, ArrayRef<Member> here,
                      int64_t first, int64_t count, char *out,
                      int64_t tileStride) -> absl::Status {
    for (int64_t t = 0; hasGaps && t < now; ++t)
      std::memset(out + t * tileStride, 0, size_t(count * recordBytes));
    for (const Member &member : here) {
      int64_t bytes = member.getBytes();
      buffer.resize_for_overwrite(size_t(now * count * bytes));
      absl::Status status =
          member.node->evaluate((tile * ofTile + first) * member.elements,
                                now * count * member.elements, buffer.data());
      if (!status.ok())
        return annotate(base, status);
      const char *from = buffer.data();
      for (int64_t t = 0; t < now; ++t)
        for (int64_t i = 0; i < count; ++i, from += bytes)
          std::memcpy(out + t * tileStride + i * recordBytes + member.begin,
                      from, size_t(bytes));
    }
    return absl::OkStatus();
  };
  int64_t tileBytes = halfBytes * int64_t(members.size());
  for (int64_t tile = 0, now; tile < tiles; tile += now) {
    int64_t room = std::min(int64_t(filler.getRoom()), recordRoom);
    now = std::min(room / tileBytes, tiles - tile);
    if (now == 0 && tileBytes <= filler.getChunkBytes()) {
      // Rather a new chunk than part of a tile.
      absl::Status status = filler.flush();
      if (!status.ok())
        return status;
      now = 1;
    }
    if (now > 0) {
      char *out = filler.reserve(size_t(now * tileBytes));
      for (auto [i, here] : llvm::enumerate(members)) {
        absl::Status status = packSome(tile, now, here, 0, ofTile,
                                       out + int64_t(i) * halfBytes, tileBytes);
        if (!status.ok())
          return status;
      }
      progress();
      continue;
    }
    now = 1;
    for (ArrayRef<Member> here : members)
      for (int64_t first = 0, count; first < ofTile; first += count) {
        if (filler.getRoom() < size_t(recordBytes)) {
          absl::Status status = filler.flush();
          if (!status.ok())
            return status;
        }
        count =
            std::min(int64_t(filler.getRoom()) / recordBytes, ofTile - first);
        absl::Status status =
            packSome(tile, 1, here, first, count,
                     filler.reserve(size_t(count * recordBytes)), 0);
        if (!status.ok())
          return status;
        progress();
      }
  }
  return absl::OkStatus();
}

/// Evaluates one weight into \p filler.
static absl::Status packWeight(const Place &place, SourceFiles &files,
                               ChunkFiller &filler,
                               llvm::function_ref<void()> progress) {
  deepseek::WeightOp weight = place.weight;
  absl::StatusOr<Recipe> recipe = makeRecipe(weight, files);
  if (!recipe.ok())
    return recipe.status();
  RecipeNode &node = *recipe->result;
  int64_t elementBytes = node.getElementBytes();
  if (node.getCount() * elementBytes != place.bytes)
    return absl::InternalError(absl::StrCat("the recipe makes ",
                                            node.getCount() * elementBytes,
                                            " bytes, expected ", place.bytes));
  int64_t granule = node.getGranule();
  for (int64_t first = 0; first < node.getCount();) {
    int64_t rest = node.getCount() - first, count;
    auto fit = [&] {
      count = std::min(int64_t(filler.getRoom()) / elementBytes, rest);
      if (count > granule)
        count -= (first + count) % granule;
      return count >= std::min(granule, rest);
    };
    if (!fit()) {
      // Rather a new chunk; if that is too small, too, part of a granule.
      absl::Status status = filler.flush();
      if (!status.ok())
        return status;
      (void)fit();
    }
    absl::Status status = node.evaluate(
        first, count, filler.reserve(size_t(count * elementBytes)));
    if (!status.ok())
      return status;
    first += count;
    progress();
  }
  return absl::OkStatus();
}

static absl::Status packAll(ArrayRef<Place> places, int64_t totalBytes,
                            StringRef modelFolder, AtomicFile &output,
                            const PackOptions &options) {
  SourceFiles files(modelFolder, options.adapterFolder);
  for (const auto &[name, path] : options.moreFiles)
    files.add(name, path);
  int64_t chunkBytes = std::max<int64_t>(options.chunkBytes, 4096);
  for (const Place &place : places)
    if (deepseek::RecordAttr record =
            deepseek::WeightOp(place.weight).getRecord())
      chunkBytes = std::max(chunkBytes, record.getBytes());
  ChunkFiller filler(output, size_t(chunkBytes));
  auto progress = [&] {
    if (options.progress)
      options.progress(filler.size(), uint64_t(totalBytes));
  };
  for (const Place &place : places) {
    absl::Status status = filler.zeros(uint64_t(place.offset) - filler.size());
    if (!status.ok())
      return status;
    deepseek::WeightOp weight = place.weight;
    status = weight.getRecord()
                 ? packRecords(place, files, filler, progress)
                 : annotate(weight, packWeight(place, files, filler, progress));
    if (!status.ok())
      return status;
  }
  absl::Status status = filler.zeros(uint64_t(totalBytes) - filler.size());
  if (!status.ok())
    return status;
  progress();
  if (options.merged)
    files.forEachMerger(options.merged);
  return filler.finish();
}

absl::Status hadal::packWeights(ModuleOp module, StringRef modelFolder,
                                AtomicFile &output,
                                const PackOptions &options) {
  auto programs = module.getOps<rt::ProgramOp>();
  if (programs.empty())
    return absl::InternalError("expects an rt.program in the module");
  rt::ProgramOp program = *programs.begin();
  mlir::FailureOr<std::string> hash = program.getLayoutHashBytes();
  if (mlir::failed(hash))
    return absl::InternalError("the program has no layout hash");
  return packWeights(module, *hash, int64_t(program.getWeightsBytes()),
                     modelFolder, output, options);
}

absl::Status hadal::packWeights(ModuleOp module, StringRef layoutHash,
                                int64_t totalBytes, StringRef modelFolder,
                                AtomicFile &output,
                                const PackOptions &options) {
  hadal_rt_weights_header_t header = {};
  std::memcpy(header.magic, HADAL_RT_WEIGHTS_MAGIC, sizeof(header.magic));
  header.version = HADAL_RT_WEIGHTS_VERSION;
  static_assert(sizeof(header.layout_hash) == 16);
  assert(layoutHash.size() == sizeof(header.layout_hash));
  std::memcpy(header.layout_hash, layoutHash.data(), layoutHash.size());

  if (options.sections.size() + 1 > HADAL_RT_MAX_SECTIONS)
    return absl::InternalError("too many sections in the weights file");
  uint64_t end = HADAL_RT_WEIGHTS_ALIGNMENT;
  auto addSection = [&](StringRef name, uint64_t bytes) {
    hadal_rt_section_t &section = header.sections[header.section_count++];
    std::memcpy(section.name, name.data(),
                std::min(name.size(), sizeof(section.name) - 1));
    section.offset = end;
    section.bytes = bytes;
    end = uint64_t(roundUp(int64_t(end + bytes), HADAL_RT_WEIGHTS_ALIGNMENT));
  };
  addSection("weights", uint64_t(totalBytes));
  for (const auto &[name, contents] : options.sections)
    addSection(name, contents.size());
  header.file_bytes = end;

  absl::StatusOr<std::vector<Place>> places = findPlaces(module, totalBytes);
  if (!places.ok())
    return places.status();

  std::string error;
  auto failed = [&] { return absl::InvalidArgumentError(error); };
  if (!output.write(&header, sizeof(header), error) ||
      !output.pad(HADAL_RT_WEIGHTS_ALIGNMENT, error))
    return failed();
  absl::Status status =
      packAll(*places, totalBytes, modelFolder, output, options);
  if (!status.ok())
    return status;
  if (!output.pad(HADAL_RT_WEIGHTS_ALIGNMENT, error))
    return failed();
  for (const auto &[name, contents] : options.sections)
    if (!output.write(contents.data(), contents.size(), error) ||
        !output.pad(HADAL_RT_WEIGHTS_ALIGNMENT, error))
      return failed();
  return absl::OkStatus();
}
