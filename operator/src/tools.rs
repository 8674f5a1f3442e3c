//! The tools for people: each gathers what there is, thinks about it in a pure function, and says it in words or as JSON.

mod check;
mod doctor;
#[cfg(test)]
mod golden;
mod kick;
mod source;
mod why;

use std::{io::Write as _, process::ExitCode};

use crate::args::Tool;

/// Looks, says what is there, and ends: with a failure where something is not as it should be.
pub(crate) fn run(tool: &Tool) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let said = match runtime {
        Ok(runtime) => runtime.block_on(use_tool(tool)),
        Err(error) => Err(format!("no runtime: {error}")),
    };
    let (words, code) = match said {
        Ok(words) => (words, ExitCode::SUCCESS),
        Err(words) => (words, ExitCode::FAILURE),
    };
    // Whoever has closed the pipe has the code still.
    let _ = writeln!(std::io::stdout().lock(), "{}", words.trim_end());
    code
}

/// What is said where all is well, or where it is not.
async fn use_tool(tool: &Tool) -> Result<String, String> {
    match tool {
        Tool::Check(args) => check::check(args).await,
        Tool::Doctor(args) => doctor::doctor(args).await,
        Tool::Why(args) => why::why(args).await,
        Tool::Kick(args) => kick::kick(args).await,
    }
}
