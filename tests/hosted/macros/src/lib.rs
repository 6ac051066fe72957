// SPDX-License-Identifier: GPL-2.0

//! The kernel's attribute macros, as far as the driver's sources use them.

use proc_macro::{
    Delimiter,
    Group,
    TokenStream,
    TokenTree, //
};

/// KUnit tests become ordinary tests.
#[proc_macro_attribute]
pub fn kunit_tests(_suite: TokenStream, module: TokenStream) -> TokenStream {
    let mut out: TokenStream = "#[cfg(test)]".parse().expect("an attribute");
    out.extend(module);
    out
}

/// Nothing is pinned on the host: this drops the `#[pin]` attributes of the fields.
#[proc_macro_attribute]
pub fn pin_data(_args: TokenStream, item: TokenStream) -> TokenStream {
    item.into_iter()
        .map(|token| match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                TokenTree::Group(Group::new(Delimiter::Brace, without_pin(group.stream())))
            }
            other => other,
        })
        .collect()
}

fn without_pin(fields: TokenStream) -> TokenStream {
    let mut out = Vec::new();
    for token in fields {
        if matches!(&token, TokenTree::Group(group) if group.to_string() == "[pin]") {
            // The `#` before it.
            out.pop();
        } else {
            out.push(token);
        }
    }
    out.into_iter().collect()
}
