//! Variables of the environment that stand for an option.

use std::io::Write as _;

use clap::error::{ContextKind, ContextValue};
use clap::{Command, CommandFactory as _};

use super::Cli;

/// A variable that an option is read from.
#[derive(Debug, PartialEq, Eq)]
pub struct OptionVariable {
    /// The variable.
    pub name: String,
    /// The option, with its dashes.
    pub option: String,
    /// What it holds is nobody's business.
    pub secret: bool,
}

/// All of them, by name.
pub fn option_variables() -> Vec<OptionVariable> {
    let mut all = Vec::new();
    collect(&Cli::command(), &mut all);
    all.sort_by(|one, other| one.name.cmp(&other.name));
    all.dedup_by(|one, other| one.name == other.name);
    all
}

fn collect(command: &Command, all: &mut Vec<OptionVariable>) {
    for arg in command.get_arguments() {
        if let (Some(name), Some(option)) = (arg.get_env(), arg.get_long()) {
            let (name, option) = (name.to_string_lossy().into_owned(), format!("--{option}"));
            all.push(OptionVariable { name, option, secret: arg.is_hide_env_values_set() });
        }
    }
    command.get_subcommands().for_each(|command| collect(command, all));
}

/// Ends the process with what is wrong with its command line, or with the help that was asked for. A value that nobody
/// typed is told with the variable that it comes from.
pub fn end(error: &clap::Error) -> ! {
    drop(error.print());
    if let Some(name) = variable_of(error) {
        drop(writeln!(std::io::stderr(), "\nThe value comes from the variable {name}."));
    }
    std::process::exit(error.exit_code())
}

fn variable_of(error: &clap::Error) -> Option<String> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let (arg, value) = (text(ContextKind::InvalidArg)?, text(ContextKind::InvalidValue)?);
    let typed = std::env::args_os().any(|typed| typed.to_str().is_some_and(|typed| typed.ends_with(value)));
    let holds = |name: &str| std::env::var(name).is_ok_and(|held| held == value);
    let is_of =
        |variable: &OptionVariable| arg.split([' ', '[']).next() == Some(&variable.option) && holds(&variable.name);
    option_variables().into_iter().find(|variable| is_of(variable) && !typed).map(|variable| variable.name)
}
