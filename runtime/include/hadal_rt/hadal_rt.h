// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What a program calls to run a compiled model: open its weights, make a
// session, make sequences, step. Plain C; needs libc and pthreads only.
//
// Memory is taken when a session is created and given back when it is freed;
// no call in between allocates. No call logs, aborts or throws. Results do not
// depend on the number of threads, nor on what else is in a step.

#ifndef HADAL_RT_HADAL_RT_H
#define HADAL_RT_HADAL_RT_H

#include "hadal_rt/abi.h"

#ifdef __cplusplus
extern "C" {
#endif

/// The outcome of a call. Codes are ABI: they are appended, never renumbered.
typedef int32_t hadal_rt_status_t;
enum {
  HADAL_RT_OK = 0,
  HADAL_RT_INVALID_ARGUMENT = 1, ///< The caller broke a documented rule.
  HADAL_RT_EXHAUSTED = 2,        ///< No free KV page or sequence is left.
  HADAL_RT_CONTEXT_FULL = 3,     ///< A position would reach the context length.
  HADAL_RT_OUT_OF_MEMORY = 4,    ///< The system has no memory or threads left.
  HADAL_RT_MEMORY_LIMIT = 5,     ///< More would be needed than was allowed.
  HADAL_RT_IO_ERROR = 6,         ///< A file cannot be opened, read or mapped.
  HADAL_RT_INVALID_WEIGHTS = 7,  ///< Not a weights file, or a damaged one.
  HADAL_RT_WEIGHTS_MISMATCH = 8, ///< The weights are those of another model.
  HADAL_RT_UNSUPPORTED_CPU = 9,  ///< The machine lacks an instruction set.
  HADAL_RT_UNSUPPORTED_ABI = 10, ///< The object needs another runtime.
  HADAL_RT_NOT_FOUND = 11,       ///< What was asked for by name is not there.
  HADAL_RT_DEVICE_ERROR = 12     ///< There is no device, or it has failed.
};

/// Returns a short English text for \p status; never null.
const char *hadal_rt_status_text(hadal_rt_status_t status);

/// Returns what went wrong in the last call of this thread that failed: one
/// line that names the file or argument and both values. Never null; valid
/// until this thread's next failing call.
const char *hadal_rt_last_error(void);

/// Checks that this runtime and this machine can run \p model, or one of its
/// `lesser` ones.
///
/// \retval HADAL_RT_OK They can.
/// \retval HADAL_RT_INVALID_ARGUMENT \p model is null or contradicts itself.
/// \retval HADAL_RT_UNSUPPORTED_ABI  It was compiled for another ABI version.
/// \retval HADAL_RT_UNSUPPORTED_CPU  The machine lacks what the last error
///         names.
hadal_rt_status_t hadal_rt_model_check(const hadal_rt_model_t *model);

/// Finds what a session of \p model runs on this machine: \p model itself, or
/// the first of its `lesser` ones whose instructions the processor has.
///
/// \param chosen Receives it; null after an error.
/// Errors are those of hadal_rt_model_check().
hadal_rt_status_t hadal_rt_model_choose(const hadal_rt_model_t *model,
                                        const hadal_rt_model_t **chosen);

/// Returns the name of adapter \p index of \p model, from 0 on, in the order in
/// which it was compiled with them; null if there is none. Valid as long as the
/// model is.
const char *hadal_rt_model_adapter(const hadal_rt_model_t *model,
                                   int32_t index);

/// Finds the adapter called \p name.
///
/// \param index Receives its number, from 0 on; -1 after an error.
///
/// \retval HADAL_RT_OK \p index is set.
/// \retval HADAL_RT_INVALID_ARGUMENT An argument is null.
/// \retval HADAL_RT_NOT_FOUND The model has no such adapter.
hadal_rt_status_t hadal_rt_model_find_adapter(const hadal_rt_model_t *model,
                                              const char *name, int32_t *index);

//===----------------------------------------------------------------------===//
// Weights
//===----------------------------------------------------------------------===//

/// A weights file, mapped read-only. Any number of sessions and threads may
/// share one. The file must not be shortened while it is open.
typedef struct hadal_rt_weights hadal_rt_weights_t;

/// Opens and maps the weights file of \p model.
///
/// \param model Outlives the weights.
/// \param path  A file; it is checked in full before it is trusted.
/// \param out   Receives the weights, to be given to
///              hadal_rt_weights_close(). Null after an error.
///
/// \retval HADAL_RT_OK \p out is ready. Its pages are read as they are used.
/// \retval HADAL_RT_INVALID_ARGUMENT An argument is null.
/// \retval HADAL_RT_UNSUPPORTED_ABI  See hadal_rt_model_check().
/// \retval HADAL_RT_IO_ERROR         The file cannot be read or mapped.
/// \retval HADAL_RT_INVALID_WEIGHTS  It is no weights file, or is damaged.
/// \retval HADAL_RT_WEIGHTS_MISMATCH It belongs to another model.
/// \retval HADAL_RT_OUT_OF_MEMORY    No memory for the handle.
hadal_rt_status_t hadal_rt_weights_open(const hadal_rt_model_t *model,
                                        const char *path,
                                        hadal_rt_weights_t **out);

/// Opens the weights that the executable at \p path carries at its end.
/// As hadal_rt_weights_open(), and:
///
/// \retval HADAL_RT_NOT_FOUND The file carries no weights.
hadal_rt_status_t hadal_rt_weights_open_embedded(const hadal_rt_model_t *model,
                                                 const char *path,
                                                 hadal_rt_weights_t **out);

/// Opens a weights file whose \p bytes bytes are in memory: linked into the
/// program, or an asset of it. Copies none of them.
/// As hadal_rt_weights_open(), and:
///
/// \param data  Outlives the weights, and does not change.
/// \retval HADAL_RT_INVALID_ARGUMENT \p data is null, or no multiple of 4096.
hadal_rt_status_t hadal_rt_weights_open_memory(const hadal_rt_model_t *model,
                                               const void *data, uint64_t bytes,
                                               hadal_rt_weights_t **out);

/// Finds the section called \p name, such as "tokenizer.json".
///
/// \param data  Receives its address, a multiple of 4096; valid until close.
///              Not NUL-terminated.
/// \param bytes Receives its size.
///
/// \retval HADAL_RT_OK Both are set.
/// \retval HADAL_RT_INVALID_ARGUMENT An argument is null.
/// \retval HADAL_RT_NOT_FOUND There is none; they are null and zero.
hadal_rt_status_t hadal_rt_weights_section(const hadal_rt_weights_t *weights,
                                           const char *name, const void **data,
                                           uint64_t *bytes);

/// Unmaps \p weights, which may be null. No session may still use them.
void hadal_rt_weights_close(hadal_rt_weights_t *weights);

//===----------------------------------------------------------------------===//
// Sessions
//===----------------------------------------------------------------------===//

/// Threads, working memory and KV pages for one stream of steps. A session is
/// used by one thread at a time.
typedef struct hadal_rt_session hadal_rt_session_t;

/// What a session is sized for. All zeros is a good start.
typedef struct hadal_rt_session_options {
  int64_t threads;         ///< With the caller's. 0: all cores it may use.
                           ///< A model on a device takes one, whatever it is.
  int64_t max_step_tokens; ///< Most tokens in a step. 0: 512.
  int64_t max_sequences;   ///< Most sequences at once. 0: 1.
  int64_t kv_tokens;       ///< Tokens that the KV pages hold over all
                           ///< sequences, rounded up to pages. A sequence
                           ///< uses whole pages. 0: the model's context.
                           ///< Of a model with a window, at most what its
                           ///< sequences can ever hold.
  int64_t memory_limit_bytes; ///< Refuse to use more. 0: no limit.
} hadal_rt_session_options_t;

/// Computes the most memory that a session of \p model can ever use: stacks,
/// working memory and all KV pages, be they the system's or a device's. The
/// mapped weights come on top; they are file pages, which the system shares and
/// can drop. A device has a copy of them, one for all sessions of a process.
///
/// \param options Null means all zeros.
///
/// \retval HADAL_RT_OK \p bytes is set.
/// \retval HADAL_RT_INVALID_ARGUMENT As for hadal_rt_session_create().
/// \retval HADAL_RT_UNSUPPORTED_ABI  See hadal_rt_model_check().
hadal_rt_status_t
hadal_rt_session_memory_bytes(const hadal_rt_model_t *model,
                              const hadal_rt_session_options_t *options,
                              int64_t *bytes);

/// Creates a session and takes all the memory and threads it will ever use.
///
/// \param model   Outlives the session.
/// \param weights Those of \p model; outlive the session.
/// \param options Copied. Null means all zeros.
/// \param out     Receives the session, to be given to
///                hadal_rt_session_free(). Null after an error.
///
/// \retval HADAL_RT_OK \p out is ready and has no sequence.
/// \retval HADAL_RT_INVALID_ARGUMENT An argument is null, an option is
///         negative or absurd, or \p weights were opened for another model.
/// \retval HADAL_RT_UNSUPPORTED_ABI  See hadal_rt_model_check().
/// \retval HADAL_RT_UNSUPPORTED_CPU  See hadal_rt_model_check().
/// \retval HADAL_RT_MEMORY_LIMIT     The limit in \p options is too low.
/// \retval HADAL_RT_OUT_OF_MEMORY    The system, or the device, gave no memory
///         or thread.
/// \retval HADAL_RT_DEVICE_ERROR     The model needs a device that is not
///         there, or cannot run it.
hadal_rt_status_t hadal_rt_session_create(
    const hadal_rt_model_t *model, const hadal_rt_weights_t *weights,
    const hadal_rt_session_options_t *options, hadal_rt_session_t **out);

/// Stops the threads and frees all memory of \p session, which may be null.
void hadal_rt_session_free(hadal_rt_session_t *session);

/// Returns the threads a step of \p session runs on, the caller's included.
int64_t hadal_rt_session_threads(const hadal_rt_session_t *session);

/// Returns how many KV pages no sequence of \p session holds.
int64_t hadal_rt_session_free_pages(const hadal_rt_session_t *session);

/// Runs the model over \p tokens new tokens, in the order given.
///
/// A step may hold several tokens of several sequences. The position of a
/// token is the length of its sequence plus the tokens of that sequence that
/// stand before it in the step.
///
/// \param token_ids    [tokens], each in [0, vocab).
/// \param sequence_ids [tokens], each made by hadal_rt_sequence_create().
/// \param tokens       1 .. max_step_tokens.
/// \param output_rows  [outputs], indices of tokens whose logits are wanted.
/// \param outputs      0 .. tokens. Fewer is faster.
/// \param logits       [outputs, vocab] float32, row-major; written. May be
///                     null if \p outputs is zero.
///
/// \retval HADAL_RT_OK The tokens are now part of their sequences.
/// \retval HADAL_RT_INVALID_ARGUMENT An id, row or count is out of range.
/// \retval HADAL_RT_CONTEXT_FULL A sequence would outgrow the context.
/// \retval HADAL_RT_EXHAUSTED The KV pages do not suffice.
/// \retval HADAL_RT_DEVICE_ERROR The device has failed: no step of this session
///         will succeed.
/// After an error nothing has changed. Does not allocate.
hadal_rt_status_t hadal_rt_session_step(hadal_rt_session_t *session,
                                        const int32_t *token_ids,
                                        const int32_t *sequence_ids,
                                        int64_t tokens,
                                        const int32_t *output_rows,
                                        int64_t outputs, float *logits);

/// Reserves KV pages, so that \p sequence can take \p tokens more tokens.
/// Pages are those of Kwon et al. 2023, arXiv:2309.06180.
///
/// \param session Not null, and in no other thread's hands during the call.
/// \param tokens  A count of tokens, not of bytes or pages. Zero does nothing.
///
/// In a model with a window, that is no more than a ring of pages.
///
/// \retval HADAL_RT_OK The next \p tokens tokens cannot run out of pages,
///         unless hadal_rt_sequence_fork() or _truncate() comes between.
/// \retval HADAL_RT_INVALID_ARGUMENT \p session is null, there is no such
///         sequence, or \p tokens < 0.
/// \retval HADAL_RT_CONTEXT_FULL The sequence would outgrow the context.
/// \retval HADAL_RT_EXHAUSTED The pool is too small; nothing has changed.
/// Does not allocate, log or abort.
hadal_rt_status_t hadal_rt_session_reserve(hadal_rt_session_t *session,
                                           int32_t sequence, int64_t tokens);

//===----------------------------------------------------------------------===//
// Sequences
//===----------------------------------------------------------------------===//

/// Makes an empty sequence.
///
/// \param sequence Receives its id, in [0, max_sequences); the smallest free
///                 one. -1 after an error.
///
/// \retval HADAL_RT_OK The sequence exists and has length 0.
/// \retval HADAL_RT_INVALID_ARGUMENT An argument is null.
/// \retval HADAL_RT_EXHAUSTED All max_sequences are in use.
hadal_rt_status_t hadal_rt_sequence_create(hadal_rt_session_t *session,
                                           int32_t *sequence);

/// Makes a sequence that begins as a copy of \p source. The two share pages
/// until one of them writes there, so a long prompt is held once.
///
/// \param sequence Receives the id of the copy. -1 after an error.
///
/// \retval HADAL_RT_OK The copy has the length of \p source.
/// \retval HADAL_RT_INVALID_ARGUMENT An argument is null, or there is no such
///         sequence.
/// \retval HADAL_RT_EXHAUSTED All max_sequences are in use.
hadal_rt_status_t hadal_rt_sequence_fork(hadal_rt_session_t *session,
                                         int32_t source, int32_t *sequence);

/// Chooses the adapter of \p sequence, which has no token yet: all of its
/// tokens are computed with one. A new sequence has none, a copy that of its
/// source.
///
/// \param adapter A number of hadal_rt_model_find_adapter(); -1: none.
///
/// \retval HADAL_RT_OK The next tokens are computed with it.
/// \retval HADAL_RT_INVALID_ARGUMENT There is no such sequence or adapter, or
///         the sequence has tokens of another; nothing has changed.
hadal_rt_status_t hadal_rt_sequence_set_adapter(hadal_rt_session_t *session,
                                                int32_t sequence,
                                                int32_t adapter);

/// Runs \p tokens tokens of \p sequence alone, in as few steps as it takes.
/// Several sequences in one step are faster; see hadal_rt_session_step().
///
/// \param token_ids [tokens], each in [0, vocab).
/// \param tokens    At least 1.
/// \param logits    [vocab] float32 of the last token; written. May be null.
///
/// \retval HADAL_RT_OK The tokens are now part of the sequence.
/// \retval HADAL_RT_INVALID_ARGUMENT An id is out of range, there are no
///         tokens, or a pointer is null.
/// \retval HADAL_RT_CONTEXT_FULL The sequence would outgrow the context.
/// \retval HADAL_RT_EXHAUSTED The KV pages do not suffice.
/// \retval HADAL_RT_DEVICE_ERROR As of hadal_rt_session_step(); some of the
///         tokens may be part of the sequence.
/// After another error, its tokens are what they were. Does not allocate.
hadal_rt_status_t hadal_rt_sequence_append(hadal_rt_session_t *session,
                                           int32_t sequence,
                                           const int32_t *token_ids,
                                           int64_t tokens, float *logits);

/// Gives the pages and the id of \p sequence back.
///
/// \retval HADAL_RT_OK The id may be handed out again.
/// \retval HADAL_RT_INVALID_ARGUMENT There is no such sequence.
hadal_rt_status_t hadal_rt_sequence_free(hadal_rt_session_t *session,
                                         int32_t sequence);

/// Reads how many tokens \p sequence has.
///
/// \retval HADAL_RT_OK \p length is set.
/// \retval HADAL_RT_INVALID_ARGUMENT There is no such sequence, or an
///         argument is null.
hadal_rt_status_t hadal_rt_sequence_length(const hadal_rt_session_t *session,
                                           int32_t sequence, int64_t *length);

/// Drops all tokens of \p sequence after the first \p length, and the pages
/// that held or were reserved for them. In a model with a window, pages that
/// are out of it are used again: only a few tokens can be taken back then, or
/// all.
///
/// \retval HADAL_RT_OK The sequence has \p length tokens.
/// \retval HADAL_RT_INVALID_ARGUMENT There is no such sequence, or \p length
///         is negative or more than the sequence has, or what the next token
///         would see is gone; nothing has changed.
hadal_rt_status_t hadal_rt_sequence_truncate(hadal_rt_session_t *session,
                                             int32_t sequence, int64_t length);

#ifdef __cplusplus
}
#endif

#endif // HADAL_RT_HADAL_RT_H
