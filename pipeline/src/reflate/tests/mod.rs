//! What the encoders write, that crate files come back, that frames do, and what enemies may send.

mod enemies;
mod frames;
mod golden;
mod inputs;
mod round;
