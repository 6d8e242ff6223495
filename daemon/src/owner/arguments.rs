//! Binding the arguments of a start by hand to a target's parameters.

use ibid::model::{Json, Parameter, ParameterKind};

/// The arguments in the order of the signature, defaults applied. `whole` gives the text of a value that
/// becomes a part of another, in case a message only named it.
///
/// # Errors
/// In words, where they do not fit.
pub(super) fn bind(
    target: &str,
    parameters: &[Parameter],
    positional: Vec<Json>,
    named: Vec<(String, Json)>,
    whole: impl Fn(Json) -> Result<Json, String>,
) -> Result<Vec<Json>, String> {
    let takes = |parameter: &&Parameter| {
        matches!(parameter.kind, ParameterKind::PositionalOnly | ParameterKind::PositionalOrKeyword)
    };
    let unbounded = parameters.iter().any(|parameter| parameter.kind == ParameterKind::VarPositional);
    let left_over = positional.len().saturating_sub(parameters.iter().filter(takes).count());
    if left_over > 0 && !unbounded {
        return Err(format!("{target} got {left_over} argument(s) too many{}", usage(target, parameters)));
    }
    let mut positional = positional.into_iter();
    let mut named = named;
    let mut bound = Vec::with_capacity(parameters.len());
    for (index, (name, _)) in named.iter().enumerate() {
        if named[..index].iter().any(|(earlier, _)| earlier == name) {
            return Err(format!("{target} got two values for '{name}'"));
        }
    }
    let by_name = [ParameterKind::PositionalOrKeyword, ParameterKind::KeywordOnly];
    let is_known =
        |name: &str| parameters.iter().any(|parameter| parameter.name == name && by_name.contains(&parameter.kind));
    let takes_others = parameters.iter().any(|parameter| parameter.kind == ParameterKind::VarKeyword);
    if let Some((name, _)) = named.iter().find(|(name, _)| !takes_others && !is_known(name)) {
        return Err(format!("{target} has no parameter '{name}'{}", usage(target, parameters)));
    }
    let mut take = |name: &str| {
        let index = named.iter().position(|(given, _)| given == name)?;
        Some(named.remove(index).1)
    };
    let mut rest = Vec::new();
    for parameter in parameters {
        let name = &parameter.name;
        let value = match parameter.kind {
            ParameterKind::PositionalOnly => positional.next(),
            ParameterKind::PositionalOrKeyword => match (positional.next(), take(name)) {
                (Some(_), Some(_)) => {
                    return Err(format!("{target} got two values for '{name}', by position and by name"));
                }
                (by_position, by_name) => by_position.or(by_name),
            },
            ParameterKind::KeywordOnly => take(name),
            ParameterKind::VarPositional => {
                let rest: Result<Vec<Json>, String> = positional.by_ref().map(&whole).collect();
                Some(Json::from_serialize(&rest?).unwrap_or_else(|_| Json::null()))
            }
            ParameterKind::VarKeyword => {
                rest.push(bound.len());
                Some(Json::null())
            }
            ParameterKind::Computed => Some(Json::null()),
        };
        match value.or_else(|| parameter.default.clone()) {
            Some(value) => bound.push(value),
            None => {
                let how = if parameter.kind == ParameterKind::KeywordOnly { ", which is given by name" } else { "" };
                return Err(format!("{target} misses the argument '{name}'{how}{}", usage(target, parameters)));
            }
        }
    }
    if let Some(index) = rest.first() {
        let members: Result<std::collections::BTreeMap<_, _>, String> =
            named.into_iter().map(|(name, value)| Ok((name, whole(value)?))).collect();
        bound[*index] = Json::from_serialize(&members?).unwrap_or_else(|_| Json::null());
    }
    Ok(bound)
}

fn usage(target: &str, parameters: &[Parameter]) -> String {
    let mut names: Vec<_> = parameters
        .iter()
        .filter(|parameter| parameter.kind != ParameterKind::Computed)
        .map(|parameter| match (parameter.kind, &parameter.default) {
            (ParameterKind::VarPositional, _) => format!("*{}", parameter.name),
            (ParameterKind::VarKeyword, _) => format!("**{}", parameter.name),
            (_, Some(default)) => format!("{}={default}", parameter.name),
            (_, None) => parameter.name.clone(),
        })
        .collect();
    let by_name = parameters.iter().position(|parameter| parameter.kind == ParameterKind::KeywordOnly);
    let marked = parameters.iter().any(|parameter| parameter.kind == ParameterKind::VarPositional);
    if let Some(first) = by_name.filter(|_| !marked) {
        names.insert(first, "*".to_owned());
    }
    format!("; it is {target}({})", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameter(name: &str, kind: ParameterKind, default: Option<&str>) -> Parameter {
        Parameter { name: name.to_owned(), kind, default: default.map(|text| Json::parse(text).unwrap()) }
    }

    fn bind_texts(positional: &[&str], named: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let parameters = [
            parameter("a", ParameterKind::PositionalOrKeyword, None),
            parameter("b", ParameterKind::PositionalOrKeyword, Some("2")),
            parameter("c", ParameterKind::KeywordOnly, Some("3")),
        ];
        let json = |text: &&str| Json::parse(*text).unwrap();
        let named = named.iter().map(|(name, text)| ((*name).to_owned(), Json::parse(*text).unwrap())).collect();
        let bound = bind("m/f", &parameters, positional.iter().map(json).collect(), named, Ok)?;
        Ok(bound.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn positions_names_and_defaults_make_one_list() {
        assert_eq!(bind_texts(&["1"], &[]).unwrap(), ["1", "2", "3"]);
        assert_eq!(bind_texts(&["1"], &[("b", "5")]).unwrap(), ["1", "5", "3"]);
        assert_eq!(bind_texts(&[], &[("c", "9"), ("a", "1")]).unwrap(), ["1", "2", "9"]);
    }

    #[test]
    fn what_does_not_fit_is_said() {
        assert!(bind_texts(&[], &[]).unwrap_err().contains("misses the argument 'a'"));
        assert!(bind_texts(&["1", "2", "3"], &[]).unwrap_err().contains("too many"));
        assert!(bind_texts(&["1"], &[("x", "1")]).unwrap_err().contains("no parameter 'x'"));
        assert!(bind_texts(&["1"], &[("a", "1")]).unwrap_err().contains("two values"));
    }

    #[test]
    fn the_rest_goes_to_the_parameters_that_take_it() {
        let parameters =
            [parameter("args", ParameterKind::VarPositional, None), parameter("kw", ParameterKind::VarKeyword, None)];
        let json = |text: &str| Json::parse(text).unwrap();
        let bound = bind("m/f", &parameters, vec![json("1"), json("2")], vec![("z".into(), json("3"))], Ok).unwrap();
        assert_eq!(bound[0].as_str(), "[1,2]");
        assert_eq!(bound[1].as_str(), r#"{"z":3}"#);
    }
}
