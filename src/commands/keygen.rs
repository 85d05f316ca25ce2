//! `crateferry keygen`: a key pair to sign with.

use std::fmt;

use serde::Serialize;

use crate::cli::KeygenArgs;
use crate::keys;
use crate::report::{self, Exit};

pub fn run(args: &KeygenArgs) -> anyhow::Result<Exit> {
    let password = args.password.get();
    let keys::Generated { id, secret, public } = keys::generate(args.kind.kind(), &args.out, password)?;
    let made = Made {
        kind: args.kind.kind(),
        key_id: id,
        secret_key: secret.display().to_string(),
        public_key: public.display().to_string(),
        password: password.is_some(),
    };
    report::print(args.json, &made)?;
    Ok(Exit::Complete)
}

#[derive(Serialize)]
struct Made {
    kind: keys::Kind,
    key_id: String,
    secret_key: String,
    public_key: String,
    password: bool,
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let password = if self.password { "needs its password" } else { "has no password" };
        writeln!(f, "secret key  {}, which {password}: keep it", self.secret_key)?;
        writeln!(f, "public key  {}, {}: give it to those who check", self.public_key, self.key_id)
    }
}
