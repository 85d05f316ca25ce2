//! Every command line that a document shows is one that this program takes.

use std::path::{Path, PathBuf};

use clap::{CommandFactory as _, Parser as _};

use super::Cli;

/// A command line, and where it stands.
#[derive(Debug)]
struct Line {
    file: PathBuf,
    words: Vec<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files_below(&path, found) } else { found.push(path) }
    }
}

/// All documents, and all files that start the program.
fn documents() -> Vec<PathBuf> {
    let mut found = vec![root().join("README.md"), root().join("justfile")];
    files_below(&root().join("docs"), &mut found);
    found.sort();
    found
}

/// The shell lines of a file, by its kind.
fn shell_lines(path: &Path, text: &str) -> Vec<String> {
    let kind = path.extension().and_then(|kind| kind.to_str()).unwrap_or_default();
    let joined = text.replace("\\\n", " ").replace("^\n", " ").replace("`\n", " ");
    let lines = joined.lines().map(str::to_owned);
    match kind {
        "md" => fenced(text),
        "service" => lines.filter_map(|line| Some(line.strip_prefix("ExecStart=")?.to_owned())).collect(),
        "cron" => lines.filter(|line| !line.starts_with('#')).map(|line| without_fields(&line)).collect(),
        "yaml" => commands_of_services(text),
        _ if path.ends_with("Dockerfile") => {
            let commands = lines.filter_map(|line| Some(line.strip_prefix("CMD ")?.to_owned()));
            commands.map(|list| from_list(&serde_json::from_str::<Vec<String>>(&list).unwrap())).collect()
        }
        _ if path.ends_with("justfile") => lines.collect(),
        _ => Vec::new(),
    }
}

/// What a line of a crontab runs: behind five fields of time and the user.
fn without_fields(line: &str) -> String {
    line.split_whitespace().skip(6).collect::<Vec<_>>().join(" ")
}

/// The lines of a Markdown file's code blocks that a shell is to read.
fn fenced(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for block in text.split("```").skip(1).step_by(2) {
        let (language, code) = block.split_once('\n').unwrap_or_default();
        let continued = match language {
            "sh" | "console" => "\\\n",
            "bat" => "^\n",
            "powershell" => "`\n",
            _ => continue,
        };
        lines.extend(code.replace(continued, " ").lines().map(str::to_owned));
    }
    lines
}

fn commands_of_services(text: &str) -> Vec<String> {
    let file: serde_json::Value = serde_saphyr::from_str(text).unwrap();
    let services = file["services"].as_object().unwrap().values();
    services
        .map(|service| from_list(&serde_json::from_value::<Vec<String>>(service["command"].clone()).unwrap()))
        .collect()
}

fn from_list(words: &[String]) -> String {
    let quoted = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>();
    format!("crateferry {}", quoted.join(" "))
}

/// The words of a shell line, commands apart from each other: a word `;` stands between them.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (Some('"') | None, '\\') if letters.peek().is_some_and(|next| "\\\"'$ |".contains(*next)) => {
                word.get_or_insert_default().extend(letters.next());
            }
            (Some(_), letter) => word.get_or_insert_default().push(letter),
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, '|' | ';' | '&' | '<' | '>' | '(' | ')') => {
                words.extend(word.take());
                words.push(";".to_owned());
            }
            (None, letter) if letter.is_whitespace() => words.extend(word.take()),
            (None, letter) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// What a shell line has to say to this program.
fn ours(line: &str) -> Vec<Vec<String>> {
    let words = words(line);
    let mut found: Vec<Vec<String>> = words.split(|word| word == ";").filter_map(of_command).collect();
    // A command line that is handed on as one word.
    let handed_on = words.iter().filter(|word| word.contains("crateferry") && word.contains(' ') && !is_program(word));
    found.extend(handed_on.flat_map(|word| ours(word)));
    found
}

fn is_program(word: &str) -> bool {
    matches!(word.rsplit(['/', '\\']).next(), Some("crateferry" | "crateferry.exe"))
}

/// This program's words in a command.
fn of_command(command: &[String]) -> Option<Vec<String>> {
    // A folder or user of this name is no program.
    let others = ["install", "useradd", "docker", "cargo", "$@"];
    let options = ["-u", "-DisplayName"];
    if command.iter().any(|word| others.contains(&word.as_str())) {
        return None;
    }
    let is_named = |at: &usize| *at == 0 || !options.contains(&command[at - 1].as_str());
    let at = (0..command.len()).filter(is_named).find(|at| is_program(&command[*at]))?;
    Some(command[at..].to_vec()).filter(|words| words.len() > 1)
}

fn lines() -> Vec<Line> {
    let mut lines = Vec::new();
    for file in documents() {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        // From the source's folder the program may be called by way of cargo.
        let text = text.replace("cargo run --release --", "crateferry");
        for line in shell_lines(&file, &text) {
            lines.extend(ours(&line).into_iter().map(|words| Line { file: file.clone(), words }));
        }
    }
    lines
}

/// The command lines in the help of each command.
fn examples(command: &clap::Command, found: &mut Vec<Line>) {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default().replace("\\\n", " ");
    for line in help.lines().filter(|line| line.starts_with("  crateferry ")) {
        // What follows after several spaces is said of the line.
        let (line, _) = line.trim_start().split_once("    ").unwrap_or((line, ""));
        let said = ours(line).into_iter().map(|words| Line { file: command.get_name().into(), words });
        found.extend(said);
    }
    command.get_subcommands().for_each(|command| examples(command, found));
}

#[track_caller]
fn all_are_taken(lines: &[Line]) {
    let refused = lines.iter().filter_map(|Line { file, words }| {
        let error = Cli::try_parse_from(words).err().filter(clap::Error::use_stderr)?;
        Some(format!("{}: {}\n{error}", file.display(), words.join(" ")))
    });
    let refused: Vec<String> = refused.collect();
    assert!(refused.is_empty(), "{} of {}:\n{}", refused.len(), lines.len(), refused.join("\n"));
}

#[test]
fn every_command_line_in_a_document_is_taken() {
    let lines = lines();
    all_are_taken(&lines);
    let has = |name: &str| lines.iter().any(|line| line.file.to_string_lossy().contains(name));
    for file in ["README.md", "operating.md", ".service", ".cron", "compose.yaml", "Dockerfile", "guides/"] {
        assert!(has(file), "no command line was found in {file}");
    }
}

#[test]
fn every_example_in_the_help_is_taken() {
    let mut lines = Vec::new();
    examples(&Cli::command(), &mut lines);
    assert!(lines.len() > 20, "{lines:?}");
    all_are_taken(&lines);
}

#[test]
fn every_command_is_told_of_in_a_document() {
    let texts: String = documents().iter().filter_map(|file| std::fs::read_to_string(file).ok()).collect();
    for command in Cli::command().get_subcommands() {
        let name = command.get_name();
        let is_told = [format!("crateferry {name} "), format!("| `{name} ")].iter().any(|told| texts.contains(told));
        assert!(is_told, "no document shows how to use `{name}`");
    }
}

#[test]
fn a_shell_line_is_read_as_a_shell_reads_it() {
    let one = |line: &str| ours(line).into_iter().map(|words| words.join("|")).collect::<Vec<_>>();
    assert_eq!(one("sudo -u x /usr/bin/crateferry sync './a b' --all  # so"), ["/usr/bin/crateferry|sync|./a b|--all"]);
    assert_eq!(
        one("A=1 crateferry man | man -l - && crateferry holes m > x"),
        ["crateferry|man", "crateferry|holes|m"]
    );
    assert_eq!(one("cd crateferry"), Vec::<String>::new());
}
