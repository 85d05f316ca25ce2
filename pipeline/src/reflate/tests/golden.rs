//! What each encoder writes, for ever. **A digest that changes here is a bundle that nobody can read any more**: an update of a library
//! that changes one is a new encoder with a new number.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crateferry_store::Sha256;

use super::inputs::{all, deflated};
use crate::reflate::Encoder;

/// For each input, the first 16 digits of the SHA-256 of what each encoder writes, by number.
const GOLDEN: [(&str, [&str; 5]); 8] = [
    ("nothing", ["9b4fb24edd6d1d88", "9b4fb24edd6d1d88", "9b4fb24edd6d1d88", "9b4fb24edd6d1d88", "9b4fb24edd6d1d88"]),
    ("one byte", ["f5b976feaac71fd8", "f5b976feaac71fd8", "f5b976feaac71fd8", "f5b976feaac71fd8", "f5b976feaac71fd8"]),
    (
        "an archive",
        ["1eacba122ae21beb", "114990f95fb79a8a", "114990f95fb79a8a", "d89d790b1ba6ea91", "d89d790b1ba6ea91"],
    ),
    ("text", ["9ae3bf5bbfb567ad", "b13496b1fded4320", "64d4afd6bc89c76f", "39ed9be89417d83b", "39ed9be89417d83b"]),
    ("noise", ["26496876b605258a", "2370df4cae3299fd", "07dd675eac1ff57e", "37ac56cf76b3bf3b", "37ac56cf76b3bf3b"]),
    ("zeros", ["0fb59c554f6019ee", "4dfd593eac6334a7", "4dfd593eac6334a7", "4dfd593eac6334a7", "4dfd593eac6334a7"]),
    ("mixed", ["367bbfb8f735bb21", "35dc8d2db3381d2f", "33d09b3bdb9eaf3f", "4718109b5ebda614", "4718109b5ebda614"]),
    (
        "text that 4 and 5 end differently",
        ["99508278297911a6", "6969d5c827c86a3e", "6969d5c827c86a3e", "7c39dc2bc4e21099", "b477842a7472cec0"],
    ),
];

#[test]
fn each_encoder_writes_what_it_always_wrote() {
    for ((name, input), (golden, digests)) in all().into_iter().zip(GOLDEN) {
        assert_eq!(name, golden);
        let written = Encoder::ALL.map(|encoder| Sha256::of(&deflated(encoder, &input)).to_string()[..16].to_owned());
        assert_eq!(written, digests, "{name}");
    }
}

/// Python has zlib, and lets the memory level be chosen.
#[test]
fn zlib_is_that_of_others_with_the_same_memory_level() {
    const SCRIPT: &str = "import sys, zlib\n\
        z = zlib.compressobj(9, zlib.DEFLATED, -15, int(sys.argv[1]))\n\
        sys.stdout.buffer.write(z.compress(sys.stdin.buffer.read()) + z.flush())";
    for (encoder, memory_level) in [(Encoder::ZlibMem9, "9"), (Encoder::ZlibMem8, "8")] {
        for (name, input) in all() {
            let mut python = Command::new("python3");
            python.args(["-c", SCRIPT, memory_level]).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut python = python.spawn().expect("python3: apt-get install python3");
            python.stdin.take().unwrap().write_all(&input).unwrap();
            let theirs = python.wait_with_output().unwrap();
            assert!(theirs.status.success());
            assert!(theirs.stdout == deflated(encoder, &input), "{name}, memory level {memory_level}");
        }
    }
}

#[test]
fn what_is_written_does_not_depend_on_the_room_there_is() {
    for (name, input) in all() {
        for encoder in Encoder::ALL {
            let whole = deflated(encoder, &input);
            for room in [0, 1, 100, 5000, whole.len() / 2, whole.len().saturating_sub(1), whole.len(), whole.len() + 1]
            {
                let mut out = vec![0; room];
                let written = encoder.deflate(&input, &mut out);
                let fits = room.min(whole.len());
                assert_eq!(written, fits, "{name}, {encoder:?}, {room}");
                assert!(out[..fits] == whole[..fits], "{name}, {encoder:?}, {room}");
            }
        }
    }
}
