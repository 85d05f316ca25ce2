//! zlib, in C: the only unsafe code of this workspace, and all of it.
//!
//! No safe wrapper lets the memory level be chosen, and it decides where blocks end. `docs/decisions/0014-one-file-is-unsafe.md` has the
//! reasons. What makes it sound: a stream begins and ends within one call, no pointer outlives it, and zlib reads and writes within the
//! lengths that it is given.
#![expect(unsafe_code, reason = "zlib is a library in C, and no safe wrapper of it has a memory level")]

use std::ffi::c_int;
use std::mem::MaybeUninit;

use libz_sys::{
    Z_BUF_ERROR, Z_DEFAULT_STRATEGY, Z_DEFLATED, Z_FINISH, Z_OK, Z_STREAM_END, deflate as z_deflate, deflateEnd,
    deflateInit2_, uInt, z_stream, zlibVersion,
};

use super::encoder::RAW;

/// Encodes as [`Encoder::deflate`](super::Encoder) says.
pub fn deflate(input: &[u8], out: &mut [u8], level: i32, memory_level: i32) -> usize {
    // A stream takes its lengths as 32 bits; contents are limited to less.
    let (Ok(input_length), Ok(out_length)) = (uInt::try_from(input.len()), uInt::try_from(out.len())) else {
        return 0;
    };
    let mut stream = MaybeUninit::<z_stream>::zeroed();
    let z = stream.as_mut_ptr();
    let Ok(size) = c_int::try_from(size_of::<z_stream>()) else { return 0 };
    // SAFETY: `z` points to a zeroed stream on this stack frame, which does not move until `deflateEnd`. Null for allocators, which its
    // type in Rust cannot say but C can, means zlib's own; so no `z_stream` is ever made a value or a reference, and its fields are
    // written and read through the pointer alone. zlib does not write through `next_in`.
    unsafe {
        let made = deflateInit2_(z, level, Z_DEFLATED, RAW, memory_level, Z_DEFAULT_STRATEGY, zlibVersion(), size);
        if made != Z_OK {
            return 0;
        }
        (*z).next_in = input.as_ptr().cast_mut();
        (*z).avail_in = input_length;
        (*z).next_out = out.as_mut_ptr();
        (*z).avail_out = out_length;
        let status = z_deflate(z, Z_FINISH);
        debug_assert!(matches!(status, Z_OK | Z_BUF_ERROR | Z_STREAM_END));
        let written = out.len() - (*z).avail_out as usize;
        deflateEnd(z);
        written
    }
}
