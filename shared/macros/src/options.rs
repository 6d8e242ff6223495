//! What stands in the parentheses of an attribute.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned as _;
use syn::{Error, Expr, ExprLit, ExprTuple, Ident, Lit, LitStr, Result, Token};

use crate::function::Kind;

/// One option: a name, and what follows its `=`.
struct Given {
    name: Ident,
    value: Option<Expr>,
}

impl Parse for Given {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let name = input.parse()?;
        let value = match input.parse::<Option<Token![=]>>()? {
            Some(_) => Some(input.parse()?),
            None => None,
        };
        Ok(Self { name, value })
    }
}

/// All options as they stand.
struct List {
    repository: Option<LitStr>,
    given: Punctuated<Given, Token![,]>,
}

impl Parse for List {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let repository = input.peek(LitStr).then(|| input.parse()).transpose()?;
        if repository.is_some() && !input.is_empty() {
            input.parse::<Token![,]>()?;
        }
        Ok(Self { repository, given: Punctuated::parse_terminated(input)? })
    }
}

/// The options of a target: what is known when it is declared, and what only a call's arguments tell.
pub struct Options {
    /// In place of the function's own.
    pub name: Option<String>,
    /// Of a stub.
    pub repository: Option<String>,
    /// Fields of `CallOptions`.
    pub fields: Vec<TokenStream>,
    /// Makes the cache key from references to the arguments.
    pub key: Option<Expr>,
    /// Makes the memo's key.
    pub memo_key: Option<Expr>,
    /// Makes the key of a deferred call.
    pub defer_key: Option<Expr>,
    /// Whether results are taken at all.
    pub caches: bool,
}

const KNOWN: [&str; 12] = [
    "cache",
    "key",
    "namespace",
    "version",
    "retries",
    "delay",
    "defer",
    "defer_max_wait",
    "memo",
    "wait",
    "timeout",
    "name",
];

impl Options {
    /// Reads the options; `parameters` are the names of the function's.
    pub fn read(kind: Kind, tokens: TokenStream, parameters: &[String]) -> Result<Self> {
        let list: List = syn::parse2(tokens)?;
        let mut options = Self {
            name: None,
            repository: None,
            fields: Vec::new(),
            key: None,
            memo_key: None,
            defer_key: None,
            caches: false,
        };
        match (kind, &list.repository) {
            (Kind::Stub, Some(repository)) => options.repository = Some(repository.value()),
            (Kind::Stub, None) => {
                let message = "name the repository of the target first: #[stub(\"shop.prices\")]";
                return Err(Error::new(Span::call_site(), message));
            }
            (_, Some(text)) => {
                return Err(Error::new(text.span(), "a text alone is no option; for another name write name = \"…\""));
            }
            (_, None) => {}
        }
        let mut seen: Vec<String> = Vec::new();
        let (mut defers, mut max_wait) = (None, None);
        for Given { name, value } in list.given {
            let option = name.to_string();
            if seen.contains(&option) {
                return Err(Error::new(name.span(), format!("`{option}` is given twice")));
            }
            if kind == Kind::Sensor && option != "name" {
                return Err(Error::new(name.span(), "a sensor has no options but `name`: it runs all the time"));
            }
            let needed = || value.clone().ok_or_else(|| Error::new(name.span(), format!("write {option} = …")));
            match option.as_str() {
                "name" => options.name = Some(text(&needed()?)?),
                "cache" => {
                    let cache = cache(value.as_ref())?;
                    options.caches = cache.is_some();
                    options.fields.extend(cache.map(|cache| quote!(cache: #cache)));
                }
                "key" => options.key = Some(needed()?),
                "namespace" => {
                    let text = text(&needed()?)?;
                    options.fields.push(quote!(cache_namespace: ::std::option::Option::Some(#text.to_owned())));
                }
                "version" => {
                    let text = text(&needed()?)?;
                    options.fields.push(quote!(cache_version: ::std::option::Option::Some(#text.to_owned())));
                }
                "retries" => {
                    let retries = retries(&needed()?)?;
                    options.fields.push(quote!(retries: #retries));
                }
                "delay" => {
                    let delay = age(&needed()?)?;
                    options.fields.push(quote!(delay: #delay));
                }
                "timeout" => {
                    let timeout = age(&needed()?)?;
                    options.fields.push(quote!(timeout: ::std::option::Option::Some(#timeout)));
                }
                "defer" => defers = Some(value),
                "defer_max_wait" => max_wait = Some((name.span(), age(&needed()?)?)),
                "memo" => match (&value, value.as_ref().and_then(switch)) {
                    (None, _) | (_, Some(true)) => options.fields.push(quote!(memo: ::ibid::model::Memo::Arguments)),
                    (_, Some(false)) => options.fields.push(quote!(memo: ::ibid::model::Memo::Off)),
                    (Some(function), None) => options.memo_key = Some(function.clone()),
                },
                "wait" => {
                    let wait = wait(value.as_ref(), parameters)?;
                    options.fields.push(quote!(wait: #wait));
                }
                _ => return Err(Error::new(name.span(), unknown(&option))),
            }
            seen.push(option);
        }
        options.defer(defers, max_wait)?;
        if let (Some(key), false) = (&options.key, options.caches) {
            return Err(Error::new(key.span(), "a key does nothing without `cache`"));
        }
        Ok(options)
    }

    fn defer(&mut self, defers: Option<Option<Expr>>, max_wait: Option<(Span, u64)>) -> Result<()> {
        let Some(value) = defers else {
            return match max_wait {
                Some((span, _)) => Err(Error::new(span, "`defer_max_wait` does nothing without `defer`")),
                None => Ok(()),
            };
        };
        if value.as_ref().and_then(switch) == Some(false) {
            return Ok(());
        }
        let max_wait = match max_wait {
            Some((_, millis)) => quote!(::std::option::Option::Some(#millis)),
            None => quote!(::std::option::Option::None),
        };
        self.fields.push(quote! {
            defer: ::std::option::Option::Some(::ibid::model::Defer {
                key: ::std::option::Option::None,
                max_wait: #max_wait,
            })
        });
        self.defer_key = value.filter(|value| switch(value).is_none());
        Ok(())
    }
}

fn unknown(option: &str) -> String {
    let meant = match option {
        "cache_key" => Some("key"),
        "cache_namespace" => Some("namespace"),
        "cache_version" => Some("version"),
        "max_age" | "ttl" | "age" => Some("cache = \"10m\""),
        "retry" => Some("retries"),
        _ => KNOWN.iter().find(|known| known.starts_with(option) || option.starts_with(**known)).copied(),
    };
    match meant {
        Some(meant) => format!("there is no option `{option}`; did you mean `{meant}`?"),
        None => format!("there is no option `{option}`; there are {}", KNOWN.join(", ")),
    }
}

fn literal(value: &Expr) -> Option<&Lit> {
    match value {
        Expr::Lit(ExprLit { lit, .. }) => Some(lit),
        _ => None,
    }
}

fn switch(value: &Expr) -> Option<bool> {
    match literal(value) {
        Some(Lit::Bool(switch)) => Some(switch.value),
        _ => None,
    }
}

fn text(value: &Expr) -> Result<String> {
    match literal(value) {
        Some(Lit::Str(text)) => Ok(text.value()),
        _ => Err(Error::new(value.span(), "write a text here: \"…\"")),
    }
}

/// `None` where nothing is cached.
fn cache(value: Option<&Expr>) -> Result<Option<TokenStream>> {
    match value.map(|value| (value, switch(value))) {
        None | Some((_, Some(true))) => Ok(Some(quote!(::ibid::model::Cache::On))),
        Some((_, Some(false))) => Ok(None),
        Some((value, None)) => {
            let age = age(value)?;
            Ok(Some(quote!(::ibid::model::Cache::MaxAge(#age))))
        }
    }
}

/// Milliseconds from a number of seconds, or a text with a unit: the same texts as on the command line, whose
/// code an attribute cannot call.
fn age(value: &Expr) -> Result<u64> {
    let wrong = || Error::new(value.span(), "write an age: \"500ms\", \"90s\", \"10m\", \"2h\", \"7d\", or seconds");
    let text = match literal(value) {
        Some(Lit::Str(text)) => text.value(),
        Some(Lit::Int(number)) => number.base10_digits().to_owned(),
        Some(Lit::Float(number)) => number.base10_digits().to_owned(),
        _ => return Err(wrong()),
    };
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit.trim() {
        "" | "s" => 1000.0,
        "ms" => 1.0,
        "m" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        "w" => 604_800_000.0,
        _ => return Err(wrong()),
    };
    let millis = number.parse::<f64>().map_err(|_| wrong())? * factor;
    if !millis.is_finite() || millis > 1e17 {
        return Err(wrong());
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be finite, positive and small enough"
    )]
    Ok(millis.round() as u64)
}

fn retries(value: &Expr) -> Result<TokenStream> {
    let parts: Vec<&Expr> = match value {
        Expr::Tuple(ExprTuple { elems, .. }) => elems.iter().collect(),
        other => vec![other],
    };
    let wrong = || {
        let message = "write how often it is tried again: 2, (2, \"1s\") with a wait, or (2, \"1s\", \"10s\") with one that grows";
        Error::new(value.span(), message)
    };
    let (Some(Lit::Int(limit)), 1..=3) = (parts.first().and_then(|first| literal(first)), parts.len()) else {
        return Err(wrong());
    };
    let limit: u32 = limit.base10_parse().map_err(|_| wrong())?;
    let waits = parts[1..].iter().map(|wait| age(wait)).collect::<Result<Vec<_>>>()?;
    let (first, last) = (waits.first().copied().unwrap_or(0), waits.last().copied().unwrap_or(0));
    Ok(quote!(::ibid::model::Retries { limit: #limit, delay_min: #first, delay_max: #last }))
}

fn wait(value: Option<&Expr>, parameters: &[String]) -> Result<TokenStream> {
    let names: Vec<&Expr> = match value {
        None => return Ok(quote!(::ibid::model::Wait::All)),
        Some(value) => match (switch(value), value) {
            (Some(true), _) => return Ok(quote!(::ibid::model::Wait::All)),
            (Some(false), _) => return Ok(quote!(::ibid::model::Wait::No)),
            (None, Expr::Array(array)) => array.elems.iter().collect(),
            (None, other) => vec![other],
        },
    };
    let mut positions = Vec::new();
    for name in names {
        let wanted = text(name)?;
        let Some(position) = parameters.iter().position(|parameter| *parameter == wanted) else {
            let message = format!("`{wanted}` is none of the parameters: {}", parameters.join(", "));
            return Err(Error::new(name.span(), message));
        };
        let position = u32::try_from(position).unwrap_or(u32::MAX);
        positions.push(quote!(#position));
    }
    Ok(quote!(::ibid::model::Wait::Positions(::std::vec![#(#positions),*])))
}
