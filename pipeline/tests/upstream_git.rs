//! A git index, compared by content.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "in a test a panic is an answer, and files are made"
)]

mod upstream_rig;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crateferry_pipeline::upstream::{
    Change, Comparison, GitError, GitIndex, IndexLimits, Mark, Phase, Problem, Progress, Scope, Upstream, UpstreamError,
};
use crateferry_store::BlobId;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use upstream_rig::*;

/// A mirror that follows a repository.
struct Mirror {
    folder: TempDir,
    url: String,
    limits: IndexLimits,
    ledger: Arc<Ledger>,
    last: Option<Mark>,
}

impl Mirror {
    fn of(repo: &Repo) -> Self {
        Mirror::at(repo.url())
    }

    fn at(url: String) -> Self {
        let (folder, ledger) = (TempDir::new().unwrap(), Arc::default());
        Mirror { folder, url, limits: IndexLimits::default(), ledger, last: None }
    }

    fn clone_folder(&self) -> PathBuf {
        self.folder.path().join("upstream")
    }

    fn upstream(&self) -> Upstream {
        Upstream::Git(GitIndex::new(&self.url, &means(&[], &self.url, self.clone_folder(), self.limits)))
    }

    /// Compares all, and keeps the mark.
    async fn sync(&mut self) -> Outcome {
        self.compare(Scope::All).await
    }

    async fn compare(&mut self, scope: Scope) -> Outcome {
        let outcome = compare(&self.upstream(), scope, &self.ledger, self.last.clone()).await;
        if let Ok(mark) = &outcome.mark {
            self.last = Some(mark.clone());
        }
        outcome
    }
}

fn three() -> Repo {
    let repo = Repo::new();
    repo.release("a", "1.0.0").release("Serde", "1.0.0").release("syn", "1.0.0").commit();
    repo
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_comparison_brings_every_index_file_with_its_bytes() {
    let repo = three();
    let mut mirror = Mirror::of(&repo);
    let outcome = mirror.sync().await;
    outcome.expect(&["+a", "+serde", "+syn"]);
    let text = outcome.changes.iter().find_map(|change| match change {
        Change::Updated { name, text, .. } if name.as_str() == "serde" => Some(text.clone()),
        _ => None,
    });
    assert_eq!(text.unwrap(), line("Serde", "1.0.0", false).into_bytes());
    let mark = outcome.mark();
    assert_eq!(mark.commit, Some(repo.git(&["rev-parse", "HEAD"])));
    assert_eq!(mark.tree, Some(repo.git(&["rev-parse", "HEAD^{tree}"])));
    assert!(mark.complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_new_brings_no_change_and_no_pack() {
    let repo = three();
    let mut mirror = Mirror::of(&repo);
    mirror.sync().await.expect(&["+a", "+serde", "+syn"]);
    let before = packs(&mirror.clone_folder());
    mirror.sync().await.expect(&[]);
    assert_eq!(packs(&mirror.clone_folder()), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_mark_the_identities_alone_say_that_nothing_is_new() {
    let repo = three();
    let mut mirror = Mirror::of(&repo);
    mirror.sync().await.expect(&["+a", "+serde", "+syn"]);
    mirror.last = None;
    mirror.sync().await.expect(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn releases_yanks_and_deletions_bring_exactly_their_paths() {
    let repo = three();
    let mut mirror = Mirror::of(&repo);
    mirror.sync().await.mark();
    repo.write("se/rd/serde", &line("Serde", "1.0.0", true));
    repo.release("tokio", "1.0.0").delete("syn").commit();
    mirror.sync().await.expect(&["+serde", "+tokio", "-syn"]);
    assert_eq!(packs(&mirror.clone_folder()), 2);
    mirror.sync().await.expect(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_is_found_without_a_mark_too() {
    let repo = three();
    let mut mirror = Mirror::of(&repo);
    mirror.sync().await.mark();
    repo.delete("syn").delete("a").commit();
    mirror.last = None;
    mirror.sync().await.expect(&["-a", "-syn"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_squashed_history_changes_nothing() {
    let repo = three();
    repo.release("syn", "1.1.0").commit();
    let mut mirror = Mirror::of(&repo);
    mirror.sync().await.mark();
    repo.squash();
    mirror.sync().await.expect(&[]);
    assert_eq!(mirror.last.as_ref().unwrap().commit, Some(repo.git(&["rev-parse", "HEAD"])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_pushed_back_takes_back_what_came_after() {
    let repo = three();
    let older = repo.git(&["rev-parse", "HEAD"]);
    repo.release("tokio", "1.0.0").release("syn", "2.0.0").commit();
    let mut mirror = Mirror::of(&repo);
    mirror.sync().await.expect(&["+a", "+serde", "+syn", "+tokio"]);
    repo.git(&["reset", "--quiet", "--hard", &older]);
    mirror.sync().await.expect(&["+syn", "-tokio"]);
    assert_eq!(packs(&mirror.clone_folder()), 1, "the older commit was held already");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_ledger_lost_since_the_mark_comes_again_when_its_path_changes_or_the_mark_is_dropped() {
    let repo = three();
    let mut mirror = Mirror::of(&repo);
    mirror.sync().await.mark();
    mirror.ledger = Arc::default();
    mirror.last = None;
    mirror.sync().await.expect(&["+a", "+serde", "+syn"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_changed_to_what_is_known_already_is_no_change() {
    let repo = three();
    let mut mirror = Mirror::of(&repo);
    mirror.sync().await.mark();
    repo.release("syn", "2.0.0").commit();
    mirror.ledger.put("syn", line("syn", "2.0.0", false).as_bytes(), Some("\"etag\""));
    mirror.sync().await.expect(&[]);
    assert_eq!(mirror.ledger.etag("syn").as_deref(), Some("\"etag\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selection_looks_at_its_own_paths_only() {
    let repo = three();
    let mut mirror = Mirror::of(&repo);
    mirror.compare(names(&["Serde", "a", "nosuch"])).await.expect(&["+a", "+serde", "!no/su/nosuch"]);
    repo.delete("a").release("syn", "2.0.0").commit();
    mirror.compare(names(&["Serde", "a"])).await.expect(&["-a"]);
    mirror.compare(Scope::All).await.expect(&["+syn"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_made_or_damaged_clone_is_made_anew() {
    for damage in [Damage::Empty, Damage::NoObjects, Damage::NoHead, Damage::Noise, Damage::HalfNew] {
        let repo = three();
        let mut mirror = Mirror::of(&repo);
        mirror.sync().await.mark();
        damage.strike(&mirror);
        repo.release("syn", "2.0.0").commit();
        let outcome = mirror.sync().await;
        outcome.mark();
        outcome.expect(&["+syn"]);
        mirror.sync().await.expect(&[]);
        assert!(!mirror.folder.path().join("upstream.new").exists(), "{damage:?}");
    }
}

#[derive(Clone, Copy, Debug)]
enum Damage {
    Empty,
    NoObjects,
    NoHead,
    Noise,
    HalfNew,
}

impl Damage {
    fn strike(self, mirror: &Mirror) {
        let clone = mirror.clone_folder();
        match self {
            Damage::Empty => {
                fs::remove_dir_all(&clone).unwrap();
                fs::create_dir(&clone).unwrap();
            }
            Damage::NoObjects => fs::remove_dir_all(clone.join("objects/pack")).unwrap(),
            Damage::NoHead => fs::remove_file(clone.join("HEAD")).unwrap(),
            Damage::Noise => noise(&clone),
            Damage::HalfNew => {
                fs::remove_dir_all(&clone).unwrap();
                fs::create_dir_all(mirror.folder.path().join("upstream.new/objects/pack")).unwrap();
                fs::write(mirror.folder.path().join("upstream.new/HEAD"), "ref: refs/hea").unwrap();
            }
        }
    }
}

/// Overwrites the objects in a clone's packs and leaves the index of each pack as it is.
fn noise(clone: &std::path::Path) {
    for pack in files(&clone.join("objects/pack")).iter().filter(|path| path.extension().unwrap() == "pack") {
        let length = fs::metadata(pack).unwrap().len() as usize;
        let mut bytes = fs::read(pack).unwrap();
        bytes[12..length - 20].fill(0xa5);
        fs::remove_file(pack).unwrap();
        fs::write(pack, bytes).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_fetch_leaves_is_cleared_away() {
    let repo = three();
    let mut mirror = Mirror::of(&repo);
    mirror.sync().await.mark();
    let clone = mirror.clone_folder();
    fs::write(clone.join("refs/remotes/origin/master.lock"), "").unwrap();
    fs::write(clone.join("packed-refs.lock"), "").unwrap();
    fs::write(clone.join("objects/pack/.tmpAb3d9f"), [0; 100]).unwrap();
    repo.release("syn", "2.0.0").commit();
    mirror.sync().await.expect(&["+syn"]);
    assert!(!clone.join("objects/pack/.tmpAb3d9f").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_packs_are_replaced_by_a_new_clone_with_one() {
    let repo = three();
    let mut mirror = Mirror::of(&repo);
    mirror.limits.packs = 3;
    for minor in 0..4 {
        repo.release("syn", &format!("1.{minor}.9")).commit();
        mirror.sync().await.mark();
        assert!(packs(&mirror.clone_folder()) <= 3);
    }
    assert_eq!(packs(&mirror.clone_folder()), 1);
    mirror.sync().await.expect(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_fetches_into_one_clone_work() {
    let repo = three();
    let mut mirror = Mirror::of(&repo);
    mirror.limits.packs = 1000;
    for patch in 0..100 {
        repo.release("syn", &format!("2.0.{patch}")).commit();
        mirror.sync().await.mark();
    }
    assert_eq!(packs(&mirror.clone_folder()), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_of_another_name_is_followed_where_head_points_to_it() {
    let repo = Repo::with_branch("trunk");
    repo.release("syn", "1.0.0").commit();
    let mut mirror = Mirror::of(&repo);
    mirror.sync().await.expect(&["+syn"]);
    repo.release("syn", "2.0.0").commit();
    mirror.sync().await.expect(&["+syn"]);
    mirror.sync().await.expect(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_one_branch_and_no_tag_is_fetched() {
    let repo = three();
    repo.git(&["checkout", "--quiet", "-b", "snapshot-1"]);
    repo.write("la/rg/large", &"x".repeat(100_000));
    repo.commit();
    repo.git(&["tag", "a-tag"]);
    let other = repo.git(&["rev-parse", "HEAD"]);
    repo.git(&["checkout", "--quiet", "master"]);
    let mut mirror = Mirror::of(&repo);
    mirror.sync().await.expect(&["+a", "+serde", "+syn"]);
    let held = std::process::Command::new("git")
        .args(["cat-file", "-e", &other])
        .current_dir(mirror.clone_folder())
        .status()
        .unwrap();
    assert!(!held.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_paths_are_reported_and_the_rest_goes_on() {
    let repo = three();
    repo.write("README.md", "an index");
    repo.write(".github/workflows/x.yml", "on: push");
    repo.write("se/rd/nul", "{}");
    repo.write("xx/yy/tokio", "{}");
    repo.write("to/ki/TOKIO", "{}");
    repo.write("to/ki/tokio/deep", "{}");
    repo.write("to/ki/t\u{fc}kio", "{}");
    repo.write("LOOSE", "{}");
    fs::create_dir_all(repo.path().join("li/nk")).unwrap();
    symlink("/etc/passwd", repo.path().join("li/nk/link")).unwrap();
    repo.commit();
    let mut mirror = Mirror::of(&repo);
    let outcome = mirror.sync().await;
    outcome.expect(&[
        "+a",
        "+serde",
        "+syn",
        "!se/rd/nul",
        "!xx/yy/tokio",
        "!to/ki/TOKIO",
        "!to/ki/tokio",
        "!to/ki/t\u{fc}kio",
        "!LOOSE",
        "!li/nk/link",
    ]);
    assert!(!mirror.clone_folder().join("workflows").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_file_that_becomes_a_link_is_reported_and_not_taken_for_deleted() {
    let repo = three();
    let mut mirror = Mirror::of(&repo);
    mirror.sync().await.mark();
    repo.delete("syn");
    symlink("/etc/passwd", repo.path().join("3/s/syn")).unwrap();
    repo.commit();
    let mark = mirror.last.take();
    mirror.sync().await.expect(&["!3/s/syn"]);
    mirror.last = mark;
    mirror.sync().await.expect(&["!3/s/syn"]);
    mirror.compare(names(&["syn"])).await.expect(&["!3/s/syn"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_above_the_limit_is_reported_with_its_size() {
    let repo = three();
    repo.write("la/rg/large", &"x".repeat(2000));
    repo.commit();
    let mut mirror = Mirror::of(&repo);
    mirror.limits.file = 1999;
    let outcome = mirror.sync().await;
    outcome.expect(&["+a", "+serde", "+syn", "!la/rg/large"]);
    let problem = outcome.changes.iter().find_map(|change| match change {
        Change::Unusable { problem, .. } => Some(problem.clone()),
        _ => None,
    });
    assert_eq!(problem, Some(Problem::TooLarge { size: 2000, limit: 1999 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_unpacks_to_more_than_the_limit_ends_the_transfer() {
    let repo = three();
    repo.write("la/rg/large", &"x".repeat(3 << 20));
    repo.commit();
    let mut mirror = Mirror::of(&repo);
    mirror.limits.object = 1 << 20;
    let error = mirror.sync().await.mark.unwrap_err();
    assert!(matches!(error, UpstreamError::Git { source: GitError::Receive(_), .. }), "{error:?}");
    assert!(!mirror.clone_folder().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_is_the_tips_and_keeps_its_bytes() {
    let repo = three();
    let mirror = Mirror::of(&repo);
    let config = config_of(&mirror.upstream()).await.unwrap().unwrap();
    assert_eq!(config.dl, "https://registry.test/dl");
    assert_eq!(config.api.as_deref(), Some("https://registry.test"));
    assert!(!config.auth_required);
    assert!(String::from_utf8(config.bytes).unwrap().contains(r#""x":1"#));
    repo.git(&["rm", "--quiet", "config.json"]);
    repo.commit();
    assert_eq!(config_of(&mirror.upstream()).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_no_repository_is_an_error_with_its_reason() {
    let folder = TempDir::new().unwrap();
    let error = Mirror::at(format!("file://{}", folder.path().display())).sync().await.mark.unwrap_err();
    assert!(matches!(error, UpstreamError::Git { source: GitError::List(_), .. }), "{error:?}");
    let error = Mirror::at("ssh://registry.test/index".to_owned()).sync().await.mark.unwrap_err();
    assert!(matches!(error, UpstreamError::Git { source: GitError::Url(_), .. }), "{error:?}");
    let error = Mirror::at("https://127.0.0.1:1/index".to_owned()).sync().await.mark.unwrap_err();
    assert!(crateferry_pipeline::error_chain(&error).contains("refused"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_repository_has_no_branch() {
    let folder = TempDir::new().unwrap();
    let repo = Repo::new();
    repo.git(&["init", "--quiet", "--bare", folder.path().to_str().unwrap()]);
    let error = Mirror::at(format!("file://{}", folder.path().display())).sync().await.mark.unwrap_err();
    assert!(matches!(error, UpstreamError::Git { source: GitError::NoBranch, .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_receiver_or_the_stop_signal_ends_the_walk() {
    let repo = three();
    let mirror = Mirror::of(&repo);
    let (out, changes) = mpsc::channel(1);
    let stop = CancellationToken::new();
    let comparison = Comparison {
        scope: Scope::All,
        known: mirror.ledger.clone(),
        last: None,
        out,
        progress: Arc::new(()),
        stop: stop.clone(),
    };
    drop(changes);
    assert!(matches!(mirror.upstream().changes(comparison.clone()).await, Err(UpstreamError::Interrupted)));
    stop.cancel();
    assert!(matches!(mirror.upstream().changes(comparison).await, Err(UpstreamError::Interrupted)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_cannot_be_read_ends_the_walk_with_its_reason() {
    let repo = three();
    let mut mirror = Mirror::of(&repo);
    mirror.ledger = Arc::new(Ledger::broken());
    assert!(matches!(mirror.sync().await.mark, Err(UpstreamError::Known(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn identities_are_gits_blob_ids() {
    let repo = three();
    let mut mirror = Mirror::of(&repo);
    let outcome = mirror.compare(names(&["syn"])).await;
    let [Change::Updated { identity, .. }] = &outcome.changes[..] else { panic!("{:?}", outcome.changes) };
    assert_eq!(identity.blob.to_string(), repo.git(&["rev-parse", "HEAD:3/s/syn"]));
    assert_eq!(identity.blob, BlobId::of(line("syn", "1.0.0", false).as_bytes()));
}

/// Remembers how far each phase came.
#[derive(Default)]
struct Diary(Mutex<BTreeMap<String, (u64, Option<u64>)>>);

impl Progress for Diary {
    fn at(&self, phase: Phase, done: u64, total: Option<u64>) {
        self.0.lock().unwrap().insert(format!("{phase:?}"), (done, total));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_phase_says_how_far_it_is() {
    let repo = three();
    let mirror = Mirror::of(&repo);
    mirror.ledger.put("gone", b"{}", None);
    let diary = Arc::new(Diary::default());
    let (out, mut changes) = mpsc::channel(8);
    let comparison = Comparison {
        scope: Scope::All,
        known: mirror.ledger.clone(),
        last: None,
        out,
        progress: diary.clone(),
        stop: CancellationToken::new(),
    };
    mirror.upstream().changes(comparison).await.unwrap();
    assert!(changes.recv().await.is_some());
    let diary = diary.0.lock().unwrap();
    let (commits, trees, files) = (1, 6, 4);
    let objects = commits + trees + files;
    assert_eq!(diary["Receiving"], (objects, Some(objects)));
    assert_eq!(diary["Resolving"].1, Some(objects));
    assert_eq!(diary["Comparing"], (3, None));
    assert_eq!(diary["Missing"], (1, Some(1)));
}
