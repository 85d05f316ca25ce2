//! Keys by their names.

use serde_json::{Value, json};

/// A key, `Shift+` before it or not, as `Input.dispatchKeyEvent` wants it.
#[track_caller]
pub(super) fn key(name: &str) -> Value {
    let (modifiers, name) = name.strip_prefix("Shift+").map_or((0, name), |name| (8, name));
    let (key, number, text) = match name {
        "Backspace" => (name, 8, None),
        "Tab" => (name, 9, None),
        "Enter" => (name, 13, Some("\r")),
        "Escape" => (name, 27, None),
        "Space" => (" ", 32, Some(" ")),
        "PageUp" => (name, 33, None),
        "PageDown" => (name, 34, None),
        "End" => (name, 35, None),
        "Home" => (name, 36, None),
        "ArrowLeft" => (name, 37, None),
        "ArrowUp" => (name, 38, None),
        "ArrowRight" => (name, 39, None),
        "ArrowDown" => (name, 40, None),
        "Delete" => (name, 46, None),
        _ if name.chars().count() == 1 => (name, number(name), Some(name)),
        _ => panic!("there is no key {name}"),
    };
    let mut event = json!({ "key": key, "windowsVirtualKeyCode": number, "modifiers": modifiers });
    if let Some(text) = text {
        event["text"] = text.into();
    }
    if text != Some(name) {
        event["code"] = name.into();
    }
    event
}

/// Letters and digits have their own character's number. Those of other characters mean something else: that of `.`
/// is Delete.
fn number(name: &str) -> u8 {
    name.bytes().find(u8::is_ascii_alphanumeric).map_or(0, |byte| byte.to_ascii_uppercase())
}
