//! The pages, as plain functions. Whatever comes from outside goes through [`escape`].

use std::borrow::Cow;

use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use sealed_session::{Error, ErrorKind, Flash, Session};

use crate::cart::{MAX_ITEM, Shop};

/// What the visitor had typed into a form that is shown again. Never a password.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) user: String,
    pub(crate) remember: bool,
    pub(crate) item: String,
}

/// The home page, with a notice about the form that was sent.
pub(crate) fn home(
    session: &Session<Shop>,
    notice: Option<&str>,
    kept: &Kept,
) -> Result<Html<String>, Error> {
    let flash = session.take_flash()?;
    let csrf = session.csrf_token()?;
    let account = match session.subject() {
        Some(subject) => signed_in(&subject, &csrf),
        None => signed_out(&csrf, kept),
    };
    let messages = messages(notice, &flash);
    let cart = cart(&session.data(), &csrf, kept);
    Ok(page("Shop", &format!("{messages}{account}{cart}")))
}

/// The home page in place of the answer that a form would have had.
pub(crate) fn home_again(
    session: &Session<Shop>,
    status: StatusCode,
    notice: &str,
    kept: &Kept,
) -> Response {
    match home(session, Some(notice), kept) {
        Ok(page) => (status, page).into_response(),
        Err(error) => error.into_response(),
    }
}

/// The page of an account.
pub(crate) fn account(subject: &str) -> Html<String> {
    let subject = escape(subject);
    let body = format!(
        r#"<section class="card">
<h2>Your account</h2>
<p>It belongs to <strong id="who">{subject}</strong>, and nobody else sees this page.</p>
<p><a href="/">Back to the shop</a></p>
</section>
"#
    );
    page("Account", &body)
}

/// Puts a page into the answer of an error of the session, which has no body. It stands between the
/// handlers and the session layer, so it never touches a cookie.
pub(crate) async fn around_error(response: Response) -> Response {
    let Some(error) = response.extensions().get::<Error>() else { return response };
    let text = match error.kind() {
        ErrorKind::SignedOut => "You are not signed in.",
        ErrorKind::Conflict => "All sessions of this account were just ended. Sign in again.",
        ErrorKind::TooLarge => "Your session holds too much for that.",
        ErrorKind::Backend => {
            "We cannot look up your session right now. Nothing is lost: try again in a minute."
        }
        _ => "Something went wrong on our side. Please try again in a minute.",
    };
    trouble(response.status(), text)
}

/// The answer to a form that another site made the browser send. It does not look at the session.
pub(crate) fn cross_site() -> Response {
    let text = "Another site sent this form in your name, so nothing was done.";
    trouble(StatusCode::FORBIDDEN, text)
}

/// The answer to an address that leads nowhere.
pub(crate) fn not_found() -> Response {
    trouble(StatusCode::NOT_FOUND, "There is no such page.")
}

/// A page that says what went wrong, and leads back.
pub(crate) fn trouble(status: StatusCode, text: &str) -> Response {
    let text = escape(text);
    let body = format!(
        r#"<section class="card">
<p class="message error" id="trouble" role="alert">{text}</p>
<p><a href="/">Back to the shop</a></p>
</section>
"#
    );
    (status, page(status.canonical_reason().unwrap_or("Shop"), &body)).into_response()
}

fn messages(notice: Option<&str>, flash: &[Flash]) -> String {
    let notice = notice.map(|text| ("error", text));
    let flash = flash.iter().map(|message| (message.level(), message.text()));
    let lines: String = notice.into_iter().chain(flash).map(message).collect();
    if lines.is_empty() {
        return lines;
    }
    format!("<div id=\"messages\">\n{lines}</div>\n")
}

fn message((level, text): (&str, &str)) -> String {
    // Screen readers interrupt for an alert, and wait with a status.
    let role = if level == "error" { "alert" } else { "status" };
    let (level, text) = (escape(level), escape(text));
    format!("<p class=\"message {level}\" role=\"{role}\">{text}</p>\n")
}

fn signed_in(subject: &str, csrf: &str) -> String {
    let subject = escape(subject);
    let csrf = hidden(csrf);
    format!(
        r#"<section class="card" id="account" aria-labelledby="account-title">
<h2 id="account-title">Your account</h2>
<p>You are signed in as <strong id="who">{subject}</strong>. <a href="/account">Account</a></p>
<div class="row">
<form id="sign-out" method="post" action="/sign-out">{csrf}
<button id="sign-out-button">Sign out</button>
</form>
<form id="sign-out-everywhere" method="post" action="/sign-out-everywhere">{csrf}
<button id="sign-out-everywhere-button" class="quiet">Sign out everywhere</button>
</form>
</div>
</section>
"#
    )
}

fn signed_out(csrf: &str, kept: &Kept) -> String {
    let csrf = hidden(csrf);
    let user = escape(&kept.user);
    let checked = if kept.remember { " checked" } else { "" };
    format!(
        r#"<section class="card" id="account" aria-labelledby="account-title">
<h2 id="account-title">Sign in</h2>
<p>You are <strong id="who">a guest</strong>. Try <code>alice</code> with <code>wonderland</code>,
or <code>bob</code> with <code>builder</code>.</p>
<form id="sign-in" method="post" action="/sign-in">{csrf}
<label for="user">User name</label>
<input id="user" name="user" value="{user}" autocomplete="username" autocapitalize="none" required>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required>
<label class="check"><input id="remember" name="remember" type="checkbox" value="on"{checked}>
Keep me signed in on this device</label>
<button id="sign-in-button">Sign in</button>
</form>
</section>
"#
    )
}

fn cart(shop: &Shop, csrf: &str, kept: &Kept) -> String {
    let csrf = hidden(csrf);
    let item = escape(&kept.item);
    let items: String = shop.cart.iter().map(|item| list_item(item)).collect();
    let list = if items.is_empty() {
        "<p id=\"cart-empty\">Nothing in it yet.</p>\n".to_owned()
    } else {
        format!("<ul id=\"cart-items\">\n{items}</ul>\n")
    };
    format!(
        r#"<section class="card" aria-labelledby="cart-title">
<h2 id="cart-title">Your cart</h2>
{list}<form id="cart" method="post" action="/cart">{csrf}
<label for="item">Item</label>
<div class="row">
<input id="item" name="item" value="{item}" maxlength="{MAX_ITEM}" autocomplete="off" required>
<button id="cart-button">Add</button>
</div>
</form>
</section>
"#
    )
}

fn list_item(text: &str) -> String {
    format!("<li>{}</li>\n", escape(text))
}

fn hidden(csrf: &str) -> String {
    format!("<input type=\"hidden\" name=\"csrf\" value=\"{csrf}\">")
}

fn page(title: &str, body: &str) -> Html<String> {
    Html(format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · axum-shop</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/style.css">
</head>
<body>
<header>
<h1><a href="/">axum-shop</a></h1>
<p>Everything this shop knows about you is sealed into one cookie.</p>
</header>
<main>
{body}</main>
<footer><a id="whoami" href="/whoami">What is in my session?</a></footer>
</body>
</html>
"#
    ))
}

/// Makes text safe inside elements and quoted attributes.
fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"', '\'']) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len().saturating_mul(2));
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    Cow::Owned(safe)
}
