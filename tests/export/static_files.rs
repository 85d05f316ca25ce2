//! `--layout static`, as cargo reads it through a web server that knows nothing of registries.

use crate::common::Ferry;
use crate::nginx::Nginx;
use crate::project::Project;
use crate::{graph, mirrored, sync};

/// Exports into the folder that nginx serves.
#[track_caller]
fn export(ferry: &Ferry, nginx: &Nginx) {
    let to = nginx.root().display().to_string();
    ferry.run("export", &["--to", &to, "--layout", "static", "--public-url", &nginx.url("/")]).expect(0);
}

fn project(nginx: &Nginx) -> Project {
    Project::of(&format!("registry = \"sparse+{}\"", nginx.url("/index/")))
}

#[test]
fn cargo_fetches_builds_and_updates_through_nginx() {
    let registry = graph();
    let ferry = mirrored(&registry);
    let nginx = Nginx::start();
    export(&ferry, &nginx);
    let project = project(&nginx);
    project.cargo("fetch");
    assert_eq!(project.run_locked(" --offline"), "1.1.0 0.3.0");
    let asked = nginx.requests();
    assert!(asked.contains("GET /crates/leaf-one/leaf-one-1.2.3+build.7.crate 200"), "{asked}");
    assert!(asked.contains("GET /crates/Mixed_Case/Mixed_Case-0.3.0.crate 200"), "{asked}");
    assert!(project.cargo_fails("add nothing-like-it").contains("could not be found"));

    registry.release("extra", "2.1.0").yank("alpha", "1.1.0");
    sync(&ferry, &registry);
    export(&ferry, &nginx);
    project.cargo("update");
    assert_eq!((project.locked("extra"), project.locked("alpha")), ("2.1.0".into(), "1.0.0".into()));
    assert!(nginx.requests().contains("GET /index/mi/xe/mixed_case 304"), "what did not change is not sent again");
}

#[test]
fn a_yanked_release_goes_on_for_who_has_locked_it_and_a_withdrawn_one_does_not() {
    let registry = graph();
    let ferry = mirrored(&registry);
    let nginx = Nginx::start();
    export(&ferry, &nginx);
    let project = project(&nginx);
    project.cargo("generate-lockfile");
    registry.yank("alpha", "1.1.0");
    sync(&ferry, &registry);
    export(&ferry, &nginx);
    let project = project.with_new_home();
    assert_eq!(project.run_locked(""), "1.1.0 0.3.0");

    registry.delete_crate("extra");
    sync(&ferry, &registry);
    export(&ferry, &nginx);
    let project = project.with_new_home();
    assert!(project.cargo_fails("fetch --locked").contains("extra"));
    assert!(nginx.requests().contains("GET /index/ex/tr/extra 404"));
}

#[test]
fn a_registry_may_lie_below_a_path() {
    let registry = graph();
    let ferry = mirrored(&registry);
    let nginx = Nginx::start();
    let (to, url) = (nginx.root().join("mirrors/one"), nginx.url("/mirrors/one"));
    let to = to.display().to_string();
    ferry.run("export", &["--to", &to, "--layout", "static", "--public-url", &url]).expect(0);
    let project = Project::of(&format!("registry = \"sparse+{url}/index/\""));
    project.cargo("generate-lockfile");
    assert_eq!(project.run_locked(""), "1.1.0 0.3.0");
}
