//! What shells and `man` are told of this program.

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory as _};

use super::Cli;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  crateferry completions bash > /etc/bash_completion.d/crateferry
  crateferry completions zsh > ~/.zfunc/_crateferry
  crateferry completions fish > ~/.config/fish/completions/crateferry.fish")]
pub struct CompletionsArgs {
    /// Which shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

impl CompletionsArgs {
    /// The script that the shell is to read.
    pub fn script(&self) -> Vec<u8> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "crateferry", &mut script);
        script
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  crateferry man | man -l -
  crateferry man --dir /usr/local/share/man/man1")]
pub struct ManArgs {
    /// A folder for the pages of all commands, crateferry.1, crateferry-sync.1 and so on
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

impl ManArgs {
    /// The page of the program itself, in roff.
    pub fn page() -> std::io::Result<Vec<u8>> {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut page)?;
        Ok(page)
    }

    /// Writes the pages of all commands into a folder that exists.
    pub fn write_all(dir: &Path) -> std::io::Result<()> {
        clap_mangen::generate_to(Cli::command(), dir)
    }
}
