//! `procstar ui`: opens the web page in a browser, with a session.

use std::ffi::OsStr;
use std::process::Command;

use super::api::Api;
use super::error::ClientError;
use super::message::print_message;
use super::options::UiArgs;
use super::out::Out;
use crate::api::CodeBody;
use crate::cli::printable::printable;
use crate::config::Env;

/// Opens the web page, or prints its URL with `--print` or if no browser starts.
///
/// # Errors
/// No response, or a response without a URL.
pub async fn ui(args: &UiArgs, api: &Api, env: &Env, out: &mut Out) -> Result<u8, ClientError> {
    let CodeBody { url, expires_in } = api.page_url(args.host.as_deref()).await?;
    // The URL becomes an argument of a command.
    let is_url = url.starts_with("http://") || url.starts_with("https://");
    if !is_url || url.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Err(api.nonsense(format!("{} is not a URL", printable(&url))));
    }
    if args.print {
        return out.line(&url).map(|()| 0);
    }
    let shown = url.split('#').next().unwrap_or_default();
    for words in commands(env, &url) {
        let Some((program, arguments)) = words.split_first() else { continue };
        match Command::new(program).args(arguments).status() {
            Ok(status) if status.success() => {
                print_message(&format!("opened {shown} with {program}"));
                return Ok(0);
            }
            Ok(status) => print_message(&format!("cannot open {shown} with {program}: {status}")),
            Err(error) => print_message(&format!("cannot open {shown} with {program}: {error}")),
        }
    }
    print_message(&format!(
        "no browser was opened: open this URL within {expires_in} s; it is valid once"
    ));
    out.line(&url).map(|()| 0)
}

/// The commands that may open a URL, the best first: those of `$BROWSER`, else `xdg-open` on a
/// desktop.
fn commands(env: &Env, url: &str) -> Vec<Vec<String>> {
    let get = |name: &str| env.get(OsStr::new(name)).filter(|value| !value.is_empty());
    let browsers = match get("BROWSER").map(|value| value.to_string_lossy()) {
        Some(browsers) => browsers.into_owned(),
        None if get("DISPLAY").is_some() || get("WAYLAND_DISPLAY").is_some() => "xdg-open".into(),
        None => return Vec::new(),
    };
    let command = |browser: &str| {
        let mut words: Vec<String> = browser.split_whitespace().map(str::to_owned).collect();
        if words.iter().skip(1).any(|word| word.contains("%s")) {
            words.iter_mut().skip(1).for_each(|word| *word = word.replace("%s", url));
        } else if !words.is_empty() {
            words.push(url.to_owned());
        }
        words
    };
    browsers.split(':').map(command).filter(|words| !words.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_come_from_the_variable_or_the_desktop() {
        let found = |env: &[(&str, &str)]| {
            let env = env.iter().map(|(name, value)| (name.into(), value.into())).collect();
            let commands = commands(&env, "U");
            commands.iter().map(|words| words.join(" ")).collect::<Vec<_>>()
        };
        assert_eq!(found(&[]), [""; 0]);
        assert_eq!(found(&[("DISPLAY", ":0")]), ["xdg-open U"]);
        assert_eq!(found(&[("WAYLAND_DISPLAY", "wayland-0"), ("BROWSER", "")]), ["xdg-open U"]);
        assert_eq!(
            found(&[("DISPLAY", ":0"), ("BROWSER", "firefox -new-window %s::w3m:  ")]),
            ["firefox -new-window U", "w3m U"]
        );
    }
}
