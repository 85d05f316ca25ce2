//! `crateferry keys`: whose signatures count for the bundles of a mirror.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use crateferry_store::{Layout, Mirror, remove_key_file, write_key_file};
use serde::Serialize;

use crate::cli::{KeysAction, KeysArgs, KeysSetArgs};
use crate::keys::{
    Chain, KeyList, KeySet, Kind, Moment, Signed, SigningKey, Trust, TrustedKey, Untrusted, read_if_there,
    read_signature, sign_all,
};
use crate::report::{self, Exit, usage};
use crate::session;

/// What a list's text is called where signatures over it note a name.
const NAME: &str = "next.json";

pub fn run(args: &KeysArgs) -> anyhow::Result<Exit> {
    match &args.action {
        KeysAction::Show { mirror, json } => report::print(*json, &show(mirror)?)?,
        KeysAction::Set(args) => report::print(args.json, &set(args)?)?,
        KeysAction::Attach { mirror, signature, json } => report::print(*json, &attach(mirror, signature)?)?,
    }
    Ok(Exit::Complete)
}

fn set(args: &KeysSetArgs) -> anyhow::Result<Outcome> {
    let keys = args.key.iter().map(|key| TrustedKey::read(key)).collect::<anyhow::Result<Vec<_>>>()?;
    let set = KeySet::new(keys, args.quorum).map_err(|error| usage(format!("--key: {error:#}")))?;
    let secrets = args.sign.iter().map(|key| SigningKey::read(key, args.password.get()));
    let secrets = secrets.collect::<anyhow::Result<Vec<_>>>()?;
    let (mirror, _) = session::open(&args.mirror)?;
    let (layout, chain) = (mirror.layout(), own_chain(mirror.layout())?);
    let list = next(&mirror, chain.as_ref(), set, args.from)?;
    let (text, described) = (list.text()?, List::of(&list));
    if args.unsigned {
        let path = layout.next_key_list();
        write_key_file(layout, &path, text.as_bytes())?;
        return Ok(Outcome { list: described, to_be_signed: Some(path.display().to_string()) });
    }
    let files = sign_all(&secrets, text.as_bytes(), NAME)?;
    let mut signatures = Vec::new();
    for file in &files {
        signatures.extend(file.texts()?);
    }
    let chain = joined(chain, Signed { list: text, signatures });
    let chain = chain.map_err(|lack| usage(format!("--sign: {lack}. Add their keys, or use --unsigned")))?;
    keep(layout, &chain)?;
    Ok(Outcome { list: described, to_be_signed: None })
}

fn attach(mirror: &Path, signatures: &[PathBuf]) -> anyhow::Result<Outcome> {
    let mut texts = Vec::new();
    for path in signatures {
        let read = read_signature(path)?.texts();
        texts.extend(read.with_context(|| format!("cannot use the signature {}", path.display()))?);
    }
    let (mirror, _) = session::open(mirror)?;
    let layout = mirror.layout();
    let path = layout.next_key_list();
    let read = read_if_there(&path, |bytes| Ok(String::from_utf8(bytes.to_vec())?))?;
    let Some(text) = read else {
        return Err(usage("no key list waits for signatures; `crateferry keys set --unsigned` writes one"));
    };
    let chain = joined(own_chain(layout)?, Signed { list: text, signatures: texts })?;
    keep(layout, &chain)?;
    Ok(Outcome { list: List::of(chain.last()), to_be_signed: None })
}

/// The chain that an origin makes longer. A replica's are made by its origin.
fn own_chain(layout: &Layout) -> anyhow::Result<Option<Chain>> {
    let trust = Trust::read(layout)?;
    if trust.pinned().is_some() {
        return Err(usage(
            "this mirror takes its key lists from the bundles that it applies; make them where those come from",
        ));
    }
    Ok(trust.chain().cloned())
}

fn next(mirror: &Mirror, chain: Option<&Chain>, set: KeySet, from: Option<u64>) -> anyhow::Result<KeyList> {
    let reader = mirror.ledger().reader()?;
    let (id, epoch) = (reader.mirror()?, reader.chain()?.epoch);
    let last = chain.map(Chain::last);
    if last.is_some_and(|last| last.set == set && from.is_none()) {
        return Err(usage("these keys count already"));
    }
    let from = match (last, from) {
        (None, None | Some(0)) => Moment::default(),
        (None, Some(_)) => return Err(usage("--from: the first key list counts from the beginning; leave it out")),
        (Some(_), Some(generation)) => Moment { epoch, generation },
        (Some(last), None) => {
            let published = reader.generation()?.map_or(0, |generation| generation.number);
            last.from.max(Moment { epoch, generation: published + 1 })
        }
    };
    if let Some(last) = last.filter(|last| from < last.from) {
        return Err(usage(format!("--from: key list {} counts from {} on, which is later", last.number, last.from)));
    }
    Ok(KeyList { mirror: id, number: last.map_or(1, |last| last.number + 1), from, set })
}

fn joined(chain: Option<Chain>, signed: Signed) -> Result<Chain, Untrusted> {
    match chain {
        None => Chain::begin(signed),
        Some(mut chain) => {
            chain.push(signed)?;
            Ok(chain)
        }
    }
}

fn keep(layout: &Layout, chain: &Chain) -> anyhow::Result<()> {
    write_key_file(layout, &layout.key_lists(), &chain.bytes()?)?;
    // If the machine stops before this, the list that is left does not follow the chain any more, and the next one replaces it.
    remove_key_file(&layout.next_key_list())?;
    Ok(())
}

fn show(mirror: &Path) -> anyhow::Result<Shown> {
    Mirror::check_there(mirror)?;
    let layout = Layout::new(mirror);
    let trust = Trust::read(&layout)?;
    let waiting = read_if_there(&layout.next_key_list(), |bytes| KeyList::read(str::from_utf8(bytes)?))?;
    let last = trust.chain().map_or(0, |chain| chain.last().number);
    let waiting = waiting.filter(|list| list.number > last);
    Ok(Shown {
        trusted: trust.pinned().map(Set::of),
        lists: trust.chain().into_iter().flat_map(Chain::lists).map(|(list, _)| List::of(list)).collect(),
        unsigned: waiting.as_ref().map(List::of),
    })
}

#[derive(Serialize)]
struct Key {
    kind: Kind,
    id: String,
}

#[derive(Serialize)]
struct Set {
    quorum: usize,
    keys: Vec<Key>,
}

impl Set {
    fn of(set: &KeySet) -> Set {
        let key = |key: &TrustedKey| Key { kind: key.kind(), id: key.id() };
        Set { quorum: set.quorum(), keys: set.keys().map(key).collect() }
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<&str> = self.keys.iter().map(|key| key.id.as_str()).collect();
        write!(f, "{} of {}: {}", self.quorum, ids.len(), ids.join(", "))
    }
}

#[derive(Serialize)]
struct List {
    number: u64,
    from: Moment,
    #[serde(flatten)]
    set: Set,
}

impl List {
    fn of(list: &KeyList) -> List {
        List { number: list.number, from: list.from, set: Set::of(&list.set) }
    }
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "list {} from {} on, {}", self.number, self.from, self.set)
    }
}

#[derive(Serialize)]
struct Outcome {
    #[serde(flatten)]
    list: List,
    #[serde(skip_serializing_if = "Option::is_none")]
    to_be_signed: Option<String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.to_be_signed {
            None => writeln!(f, "in effect   {}", self.list),
            Some(path) => {
                writeln!(f, "unsigned    {}", self.list)?;
                writeln!(f, "to be signed, as it is: {path}; then `crateferry keys attach`")
            }
        }
    }
}

#[derive(Serialize)]
struct Shown {
    trusted: Option<Set>,
    lists: Vec<List>,
    unsigned: Option<List>,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(set) = &self.trusted {
            writeln!(f, "trusted     {set}")?;
        }
        self.lists.iter().try_for_each(|list| writeln!(f, "in effect   {list}"))?;
        if let Some(list) = &self.unsigned {
            writeln!(f, "unsigned    {list}")?;
        }
        if self.trusted.is_none() && self.lists.is_empty() {
            writeln!(f, "there is no key list; `crateferry keys set` makes the first one")?;
        }
        Ok(())
    }
}
