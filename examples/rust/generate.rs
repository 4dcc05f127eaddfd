// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Continues token ids with a compiled model, in Rust through the C interface:
// the likeliest token, 32 times.
//
//     build/bin/hadalc models/abyss-tiny -o abyss --emit=lib
//     rustc -O examples/rust/generate.rs -C link-arg=abyss.a -C link-arg=-lm && ./generate 1 2 3
//
// The declarations are those of hadal_rt/abi.h and hadal_rt.h that it needs;
// bindgen makes all of them from these headers and abyss.h.

use std::ffi::{c_char, c_void, CStr};

#[repr(C)]
struct Model {
    abi_version: u32,
    cpu_features: u32,
    name: *const c_char,
    manifest: *const c_char,
    layout_hash: [u8; 16],
    weights_bytes: i64,
    vocab: i64,
    // More follows, which only the runtime reads.
}
unsafe impl Sync for Model {}

#[repr(C)]
#[derive(Default)]
struct SessionOptions {
    threads: i64,
    max_step_tokens: i64,
    max_sequences: i64,
    kv_tokens: i64,
    memory_limit_bytes: i64,
}

extern "C" {
    static abyss_model: Model;
    fn hadal_rt_last_error() -> *const c_char;
    fn hadal_rt_weights_open(model: *const Model, path: *const c_char, out: *mut *mut c_void) -> i32;
    fn hadal_rt_weights_close(weights: *mut c_void);
    fn hadal_rt_session_create(model: *const Model, weights: *const c_void, options: *const SessionOptions,
                               out: *mut *mut c_void) -> i32;
    fn hadal_rt_session_free(session: *mut c_void);
    fn hadal_rt_sequence_create(session: *mut c_void, sequence: *mut i32) -> i32;
    fn hadal_rt_session_step(session: *mut c_void, token_ids: *const i32, sequence_ids: *const i32, tokens: i64,
                             output_rows: *const i32, outputs: i64, logits: *mut f32) -> i32;
}

/// What a session needs, closed in the right order.
struct Session {
    weights: *mut c_void,
    session: *mut c_void,
    sequence: i32,
}

fn check(status: i32) -> Result<(), String> {
    if status == 0 {
        return Ok(());
    }
    // Sound: never null, and copied before the next call of this thread.
    Err(unsafe { CStr::from_ptr(hadal_rt_last_error()) }.to_string_lossy().into_owned())
}

impl Session {
    fn open(path: &CStr) -> Result<Session, String> {
        let mut made = Session { weights: std::ptr::null_mut(), session: std::ptr::null_mut(), sequence: -1 };
        // Sound: the model is a constant, and `drop` takes what was made before an error.
        unsafe {
            check(hadal_rt_weights_open(&abyss_model, path.as_ptr(), &mut made.weights))?;
            check(hadal_rt_session_create(&abyss_model, made.weights, &SessionOptions::default(), &mut made.session))?;
            check(hadal_rt_sequence_create(made.session, &mut made.sequence))?;
        }
        Ok(made)
    }

    /// Runs `tokens`, and returns the logits of the last of them.
    fn step(&mut self, tokens: &[i32]) -> Result<Vec<f32>, String> {
        let sequences = vec![self.sequence; tokens.len()];
        let mut logits = vec![0.0; unsafe { abyss_model.vocab } as usize];
        let last = tokens.len() as i32 - 1;
        // Sound: each pointer has as many elements as the counts beside it say.
        check(unsafe {
            hadal_rt_session_step(self.session, tokens.as_ptr(), sequences.as_ptr(), tokens.len() as i64, &last, 1,
                                  logits.as_mut_ptr())
        })?;
        Ok(logits)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Sound: both take null.
        unsafe {
            hadal_rt_session_free(self.session);
            hadal_rt_weights_close(self.weights);
        }
    }
}

fn run() -> Result<(), String> {
    let mut tokens = std::env::args().skip(1).map(|text| text.parse::<i32>()).collect::<Result<Vec<_>, _>>()
        .map_err(|error| error.to_string())?;
    let mut session = Session::open(CStr::from_bytes_with_nul(b"abyss.weights\0").unwrap())?;
    for _ in 0..32 {
        let logits = session.step(&tokens)?;
        let likeliest = (0..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best });
        println!("{likeliest}");
        tokens = vec![likeliest as i32];
    }
    Ok(())
}

fn main() {
    if let Err(error) = run() {
        eprintln!("error: {error}");
        std::process::exit(1);
    }
}
