//! What becomes of a function.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::ext::IdentExt as _;
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned as _;
use syn::{Attribute, Block, Error, Expr, FnArg, Ident, Lit, Meta, Pat, Result, ReturnType, Signature, Token, Type};
use syn::{Visibility, parse2};

use crate::options::Options;

/// Which attribute it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Task,
    Workflow,
    Sensor,
    Stub,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Workflow => "workflow",
            Self::Sensor => "sensor",
            Self::Stub => "stub",
        }
    }
}

/// A function, or the declaration of one.
struct Function {
    attributes: Vec<Attribute>,
    visibility: Visibility,
    signature: Signature,
    body: Option<Box<Block>>,
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let attributes = input.call(Attribute::parse_outer)?;
        let visibility = input.parse()?;
        let signature = input.parse().map_err(|error| {
            Error::new(error.span(), "this attribute stands before a function: fn name(…) -> ibid::Result<…> { … }")
        })?;
        let body = match input.parse::<Option<Token![;]>>()? {
            Some(_) => None,
            None => Some(input.parse()?),
        };
        Ok(Self { attributes, visibility, signature, body })
    }
}

/// A parameter of the function.
struct Parameter {
    name: Ident,
    pattern: Pat,
    ty: Type,
}

/// The function and what is declared beside it; where something is wrong, the errors, and the function as it
/// was written, so that nothing else seems to be missing.
pub fn expand(kind: Kind, options: TokenStream, function: TokenStream) -> TokenStream {
    match declare(kind, options, function.clone()) {
        Ok(declared) => declared,
        Err(error) => {
            let errors = error.to_compile_error();
            match parse2::<Function>(function.clone()) {
                Ok(Function { body: Some(_), .. }) => quote!(#errors #function),
                _ => errors,
            }
        }
    }
}

fn declare(kind: Kind, options: TokenStream, tokens: TokenStream) -> Result<TokenStream> {
    let source = {
        let mut hasher = DefaultHasher::new();
        tokens.to_string().hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    };
    let function: Function = parse2(tokens)?;
    let parameters = parameters(kind, &function.signature)?;
    let names: Vec<String> = parameters.iter().map(|parameter| parameter.name.unraw().to_string()).collect();
    let options = Options::read(kind, options, &names)?;
    if function.body.is_none() && kind != Kind::Stub {
        return Err(Error::new(function.signature.span(), format!("a {} has a body", kind.name())));
    }
    let ReturnType::Type(_, returned) = &function.signature.output else {
        let message = format!("a {} returns a result: write `-> ibid::Result<()>`", kind.name());
        return Err(Error::new(function.signature.ident.span(), message));
    };
    if !may_be_result(returned) {
        let message = format!(
            "write `-> ibid::Result<{}>`: a call can fail even where the function cannot, as when it is cancelled",
            quote!(#returned)
        );
        return Err(Error::new(returned.span(), message));
    }
    Ok(generate(kind, &function, &parameters, &options, returned, &source))
}

/// Whether a type can be a result: it is named so, or by a name that may stand for anything.
fn may_be_result(returned: &Type) -> bool {
    let Type::Path(path) = returned else { return false };
    let Some(last) = path.path.segments.last() else { return false };
    let plain = ["bool", "char", "str", "f32", "f64", "String", "Vec", "Option", "Box", "HashMap", "BTreeMap"];
    let name = last.ident.to_string();
    let is_integer =
        name.len() <= 5 && name.starts_with(['i', 'u']) && name.ends_with(|c: char| c.is_ascii_digit() || c == 'e');
    !is_integer && !plain.contains(&name.as_str())
}

/// Whether a type is written as an `Option`.
fn is_option(ty: &Type) -> bool {
    let Type::Path(path) = ty else { return false };
    path.path.segments.last().is_some_and(|last| last.ident == "Option")
}

fn parameters(kind: Kind, signature: &Signature) -> Result<Vec<Parameter>> {
    if let Some(first) = signature.generics.params.first() {
        let message = format!("a {} has no type parameters: its arguments come from other processes", kind.name());
        return Err(Error::new(first.span(), message));
    }
    if let syn::Safety::Unsafe(token) = &signature.safety {
        return Err(Error::new(token.span(), format!("a {} cannot be unsafe: anyone may call it", kind.name())));
    }
    let mut parameters = Vec::new();
    for input in &signature.inputs {
        let typed = match input {
            FnArg::Typed(typed) => typed,
            FnArg::Receiver(receiver) => {
                let message = format!("a {} is a function of its own, not a method", kind.name());
                return Err(Error::new(receiver.span(), message));
            }
        };
        let Pat::Ident(pattern) = &*typed.pat else {
            return Err(Error::new(typed.pat.span(), "give the argument a name: the daemon shows it"));
        };
        if let Some(reference) = find_reference(&typed.ty) {
            let message = "arguments are sent to another process, so they must be owned: `String` in place of `&str`, \
                           `Vec<T>` in place of `&[T]`";
            return Err(Error::new(reference.span(), message));
        }
        parameters.push(Parameter {
            name: pattern.ident.clone(),
            pattern: (*typed.pat).clone(),
            ty: (*typed.ty).clone(),
        });
    }
    Ok(parameters)
}

fn find_reference(ty: &Type) -> Option<&Type> {
    match ty {
        Type::Reference(_) => Some(ty),
        Type::Tuple(tuple) => tuple.elems.iter().find_map(find_reference),
        Type::Array(array) => find_reference(&array.elem),
        Type::Paren(paren) => find_reference(&paren.elem),
        _ => None,
    }
}

fn documentation(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(text) => Some(text.value()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    });
    lines.map(|line| line.trim().to_owned()).collect::<Vec<_>>().join("\n")
}

fn generate(
    kind: Kind,
    function: &Function,
    parameters: &[Parameter],
    options: &Options,
    returned: &Type,
    source: &str,
) -> TokenStream {
    let Function { attributes, visibility, signature, body } = function;
    let is = |attribute: &Attribute, names: &[&str]| names.iter().any(|name| attribute.path().is_ident(name));
    let everywhere: Vec<_> = attributes.iter().filter(|one| is(one, &["cfg"])).collect();
    let outside: Vec<_> = attributes.iter().filter(|one| is(one, &["doc", "deprecated", "must_use"])).collect();
    let inside: Vec<_> = attributes.iter().filter(|one| !is(one, &["cfg", "doc", "deprecated", "must_use"])).collect();
    let ident = &signature.ident;
    let is_async = signature.asyncness.is_some();
    let target_name = options.name.clone().unwrap_or_else(|| ident.unraw().to_string());
    let names: Vec<&Ident> = parameters.iter().map(|parameter| &parameter.name).collect();
    let texts: Vec<String> = names.iter().map(|name| name.unraw().to_string()).collect();
    let optional: Vec<bool> = parameters.iter().map(|parameter| is_option(&parameter.ty)).collect();
    let types: Vec<&Type> = parameters.iter().map(|parameter| &parameter.ty).collect();
    let patterns: Vec<&Pat> = parameters.iter().map(|parameter| &parameter.pattern).collect();
    let documentation = documentation(attributes);
    let fields = &options.fields;
    let (own_key, own_defer) = (options.key.is_some(), options.defer_key.is_some());
    let model_kind = match kind {
        Kind::Workflow => quote!(Workflow),
        Kind::Sensor => quote!(Sensor),
        Kind::Task | Kind::Stub => quote!(Task),
    };
    let repository = match &options.repository {
        Some(name) => quote!(::std::option::Option::Some(#name)),
        None => quote!(::std::option::Option::None),
    };
    let value = quote_spanned!(returned.span()=> <#returned as ::ibid::worker::Returned>::Value);
    let evaluated = [
        (&options.key, quote!(__ibid_options.cache_key = ::std::option::Option::Some(__ibid_text))),
        (&options.memo_key, quote!(__ibid_options.memo = ::ibid::model::Memo::Key(__ibid_text))),
        (
            &options.defer_key,
            quote!(if let ::std::option::Option::Some(defer) = &mut __ibid_options.defer {
                defer.key = ::std::option::Option::Some(__ibid_text);
            }),
        ),
    ];
    let evaluated = evaluated.iter().filter_map(|(given, set)| {
        let given = given.as_ref()?;
        Some(quote_spanned! {given.span()=>
            {
                let __ibid_text: ::std::string::String = ::std::convert::Into::into((#given)(#(&#names),*));
                #set;
            }
        })
    });
    let evaluated = quote!(#(#evaluated)*);
    let body_name = format_ident!("__ibid_body");
    let the_body = body.as_ref().map(|body| {
        let asyncness = &signature.asyncness;
        quote! {
            #(#inside)*
            #[doc(hidden)]
            #[allow(clippy::unused_async, clippy::too_many_arguments)]
            #asyncness fn #body_name(#(#patterns: #types),*) -> #returned #body
        }
    });
    let local = match (body.is_some(), is_async) {
        (true, true) => quote!(::std::boxed::Box::pin(async move {
            ::ibid::worker::Returned::result(#ident::#body_name(#(#names),*).await)
        })),
        (true, false) => quote! {{
            let __ibid_result = ::ibid::worker::Returned::result(#ident::#body_name(#(#names),*));
            ::std::boxed::Box::pin(::std::future::ready(__ibid_result))
        }},
        (false, _) => quote! {{
            let __ibid_message = ::std::concat!("the stub ", #target_name, " can be called only inside an execution");
            ::std::boxed::Box::pin(::std::future::ready(::std::result::Result::Err(::ibid::Error::message(__ibid_message))))
        }},
    };
    let run = match (kind != Kind::Stub, is_async) {
        (false, _) => quote!(::std::option::Option::None),
        (true, true) => quote!(::std::option::Option::Some(|__ibid_arguments| {
            let mut __ibid_arguments = __ibid_arguments.into_iter();
            #(let #names: #types = ::ibid::worker::decode_argument(&mut __ibid_arguments, #texts)?;)*
            ::std::result::Result::Ok(::ibid::worker::Body::Async(::std::boxed::Box::pin(async move {
                ::ibid::worker::encode_result(#ident::#body_name(#(#names),*).await)
            })))
        })),
        (true, false) => quote!(::std::option::Option::Some(|__ibid_arguments| {
            let mut __ibid_arguments = __ibid_arguments.into_iter();
            #(let #names: #types = ::ibid::worker::decode_argument(&mut __ibid_arguments, #texts)?;)*
            ::std::result::Result::Ok(::ibid::worker::Body::Blocking(::std::boxed::Box::new(move || {
                ::ibid::worker::encode_result(#ident::#body_name(#(#names),*))
            })))
        })),
    };
    let linked = (kind != Kind::Stub).then(|| {
        quote! {
            #(#everywhere)*
            const _: () = {
                use ::ibid::worker::inventory;
                inventory::submit! { ::ibid::worker::Linked(&#ident::TARGET) }
            };
        }
    });
    let (wrapper_returns, wrapper_does) = match is_async {
        true => (quote!(::ibid::Call<#value>), quote!(#ident::call(#(#names),*))),
        false if body.is_some() => (
            quote!(#returned),
            quote! {
                if ::ibid::execution_id().is_none() {
                    return #ident::#body_name(#(#names),*);
                }
                #ident::call(#(#names),*).wait()
            },
        ),
        false => (quote!(#returned), quote!(#ident::call(#(#names),*).wait())),
    };
    let (item, apart) = match (names.as_slice(), types.as_slice()) {
        ([name], [ty]) => (quote!(#ty), quote!(#name)),
        _ => (quote!((#(#types,)*)), quote!((#(#names,)*))),
    };
    let declared = format!("The {} `{target_name}`: ways to call it.", kind.name());
    quote! {
        #(#everywhere)*
        #(#outside)*
        #[allow(clippy::too_many_arguments)]
        #visibility fn #ident(#(#names: #types),*) -> #wrapper_returns {
            #wrapper_does
        }

        #(#everywhere)*
        #[doc = #declared]
        #[allow(non_camel_case_types)]
        #visibility struct #ident {}

        #(#everywhere)*
        #[allow(dead_code, clippy::redundant_closure_call, clippy::too_many_arguments)]
        impl #ident {
            /// What the daemon is told of it.
            pub const TARGET: ::ibid::worker::Target = ::ibid::worker::Target {
                kind: ::ibid::model::TargetKind::#model_kind,
                name: #target_name,
                repository: #repository,
                parameters: &[#(::ibid::worker::Declared { name: #texts, optional: #optional }),*],
                options: || {
                    #[allow(clippy::needless_update)]
                    ::ibid::model::CallOptions { #(#fields,)* ..::std::default::Default::default() }
                },
                own_key: #own_key,
                own_defer: #own_defer,
                doc: #documentation,
                source: #source,
                is_async: #is_async,
                run: #run,
            };

            #the_body

            /// The call, whose options can be changed before it is made.
            pub fn call(#(#names: #types),*) -> ::ibid::Call<#value> {
                let __ibid_target: &'static ::ibid::worker::Target = &Self::TARGET;
                let mut __ibid_options = (__ibid_target.options)();
                #evaluated
                let __ibid_arguments = (|| ::std::result::Result::Ok(::std::vec![
                    #(::ibid::worker::encode_argument(__ibid_target, #texts, &#names)?),*
                ]))();
                ::ibid::Call::new(__ibid_target, __ibid_arguments, __ibid_options, move || -> ::ibid::worker::Task<#value> { #local })
            }

            /// Makes the call and returns at once.
            pub fn submit(#(#names: #types),*) -> ::ibid::Execution<#value> {
                Self::call(#(#names),*).submit()
            }

            /// Makes many calls, in as few messages as can be.
            pub fn map(items: impl ::std::iter::IntoIterator<Item = #item>) -> ::std::vec::Vec<::ibid::Execution<#value>> {
                ::ibid::worker::submit_all(items.into_iter().map(|#apart| Self::call(#(#names),*)))
            }
        }

        #linked
    }
}
