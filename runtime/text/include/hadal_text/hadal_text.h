// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The text library for C: from text to token ids, from logits to a token, and
// back to text. What calls it is linked with a C++ library.
//
// Statuses are those of hadal_rt.h. A handle is used by one thread at a time.

#ifndef HADAL_TEXT_HADAL_TEXT_H
#define HADAL_TEXT_HADAL_TEXT_H

#include "hadal_rt/hadal_rt.h"

#ifdef __cplusplus
extern "C" {
#endif

/// Returns what went wrong in the last call of this thread that failed, on one
/// line. Never null; valid until this thread's next failing call.
const char *hadal_text_last_error(void);

//===----------------------------------------------------------------------===//
// Tokenizer and chat format
//===----------------------------------------------------------------------===//

/// A tokenizer, the chat format of its model, and the text that is being
/// decoded.
typedef struct hadal_text hadal_text_t;

/// The contents of files as they are in a Hugging Face folder; null and zero
/// for those that are not there. Not NUL-terminated.
typedef struct hadal_text_files {
  const void *tokenizer_json;
  uint64_t tokenizer_json_bytes;
  const void *tokenizer_config_json;
  uint64_t tokenizer_config_json_bytes;
  const void *generation_config_json;
  uint64_t generation_config_json_bytes;
  const void *chat_template_jinja;
  uint64_t chat_template_jinja_bytes;
} hadal_text_files_t;

/// Reads a tokenizer. \p files are not needed after the call.
///
/// \param out Receives what is to be given to hadal_text_free(). Null after an
///            error.
///
/// \retval HADAL_RT_OK \p out is ready.
/// \retval HADAL_RT_INVALID_ARGUMENT An argument is null, or a file is broken
///         or not supported.
/// \retval HADAL_RT_NOT_FOUND There is no tokenizer.json.
hadal_rt_status_t hadal_text_create(const hadal_text_files_t *files,
                                    hadal_text_t **out);

/// Reads the tokenizer that \p weights carry; see hadal_text_create().
static inline hadal_rt_status_t
hadal_text_open(const hadal_rt_weights_t *weights, hadal_text_t **out) {
  hadal_text_files_t files;
  hadal_rt_weights_section(weights, "tokenizer.json", &files.tokenizer_json,
                           &files.tokenizer_json_bytes);
  hadal_rt_weights_section(weights, "tokenizer_config.json",
                           &files.tokenizer_config_json,
                           &files.tokenizer_config_json_bytes);
  hadal_rt_weights_section(weights, "generation_config.json",
                           &files.generation_config_json,
                           &files.generation_config_json_bytes);
  hadal_rt_weights_section(weights, "chat_template.jinja",
                           &files.chat_template_jinja,
                           &files.chat_template_jinja_bytes);
  return hadal_text_create(&files, out);
}

/// Frees \p text, which may be null.
void hadal_text_free(hadal_text_t *text);

/// Encodes \p bytes bytes of UTF-8, with the tokens that the model wants around
/// a text.
///
/// \param tokens Receives [count] ids; valid until the next call with \p text.
///
/// \retval HADAL_RT_OK Both are set.
/// \retval HADAL_RT_INVALID_ARGUMENT An argument is null, or the text is too
///         long or cannot be encoded.
hadal_rt_status_t hadal_text_encode(hadal_text_t *text, const char *utf8,
                                    uint64_t bytes, const int32_t **tokens,
                                    int64_t *count);

typedef struct hadal_text_message {
  const char *role;    ///< "system", "user" or "assistant".
  const char *content; ///< UTF-8, NUL-terminated.
} hadal_text_message_t;

/// Encodes a conversation, up to where the model's answer begins.
///
/// \param messages [message_count], the oldest first.
/// \param format   As hadal-run's --chat-format; null: what the model says.
/// \param thinking Not zero: the answer is to begin with reasoning, where the
///                 format lets one choose.
/// \param tokens   As of hadal_text_encode().
///
/// \retval HADAL_RT_OK Both are set.
/// \retval HADAL_RT_INVALID_ARGUMENT An argument is null, or a role or the
///         format is not known, or the model does not say its own.
hadal_rt_status_t hadal_text_chat(hadal_text_t *text,
                                  const hadal_text_message_t *messages,
                                  int64_t message_count, const char *format,
                                  int32_t thinking, const int32_t **tokens,
                                  int64_t *count);

/// Decodes one token more. Returns the text that is complete with it, maybe
/// none: NUL-terminated UTF-8, valid until the next call with \p text. Special
/// tokens have no text.
const char *hadal_text_push(hadal_text_t *text, int32_t token);

/// Ends the text that is being decoded: returns what was held back, like
/// hadal_text_push().
const char *hadal_text_flush(hadal_text_t *text);

/// Returns 1 if \p token ends an answer, and 0 if it does not.
int32_t hadal_text_is_end(const hadal_text_t *text, int32_t token);

//===----------------------------------------------------------------------===//
// Sampler
//===----------------------------------------------------------------------===//

/// Chooses tokens, the same for the same options and logits on every machine.
typedef struct hadal_text_sampler hadal_text_sampler_t;

/// How to choose. All zeros takes the likeliest token.
typedef struct hadal_text_sampling {
  float temperature;        ///< Divides the logits. 0: the likeliest token.
  int32_t top_k;            ///< Among the K likeliest. 0: all.
  float top_p;              ///< That together have probability P. 0: all.
  float min_p;              ///< At least P times as likely as the first.
  float repetition_penalty; ///< Of tokens seen before. 0: none, as 1.
  uint64_t seed;
} hadal_text_sampling_t;

/// Makes a sampler.
///
/// \param sampling Copied. Null means all zeros.
/// \param out      Receives what is to be given to hadal_text_sampler_free().
///                 Null after an error.
///
/// \retval HADAL_RT_OK \p out is ready.
/// \retval HADAL_RT_INVALID_ARGUMENT \p out is null, or a value is out of
///         range.
hadal_rt_status_t
hadal_text_sampler_create(const hadal_text_sampling_t *sampling,
                          hadal_text_sampler_t **out);

/// Frees \p sampler, which may be null.
void hadal_text_sampler_free(hadal_text_sampler_t *sampler);

/// Notes \p token as seen, for the repetition penalty: those of the prompt.
/// Tokens that were chosen are.
void hadal_text_sampler_accept(hadal_text_sampler_t *sampler, int32_t token);

/// Chooses a token.
///
/// \param sampler Null: the likeliest token.
/// \param logits  [vocab].
/// \returns The id, or -1 if no logit is finite.
int32_t hadal_text_sample(hadal_text_sampler_t *sampler, const float *logits,
                          int64_t vocab);

#ifdef __cplusplus
}
#endif

#endif // HADAL_TEXT_HADAL_TEXT_H
