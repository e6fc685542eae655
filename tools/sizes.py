#!/usr/bin/env python3
"""Checks that files and functions keep a size that a reader can hold (docs/STYLE.md, "Small").

Prints the figures of the rooms, each violation as file:line, and ends with 1 where there is one.
usage: sizes.py [ROOT] [--long]     --long: also the functions with more parameters than most should have"""
import re
import statistics
import sys

from files import C_SUFFIXES, Tree
from layers import USES, room_of

FILE_LINES_MAX = 800      # of any source, tests and scripts too
FILE_LINES_MEDIAN = 250   # the rooms' median is below
FUNCTION_LINES_MAX = 70   # a screen
PARAMETERS_P95 = 5        # of the rooms' functions

NOT_A_NAME = ("__attribute__", "__launch_bounds__", "__align__", "alignas")
TOKEN = re.compile(r"[A-Za-z_]\w*|[=!<>]=|\S")
NO_CODE = re.compile(
    r"""/\*.*?\*/ | //[^\n]* | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])+'""", re.S | re.X)
DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.M)


def code(text):
    """The text without comments, strings and directives; each line still in its place."""
    def blank(match):
        return "\n" * match[0].count("\n") or " "
    return DIRECTIVE.sub(blank, NO_CODE.sub(blank, text))


def count_parameters(tokens):
    depth, commas = 0, 0
    for _, token in tokens:
        depth += (token in "([{") - (token in ")]}")
        commas += token == "," and depth == 0
    words = [token for _, token in tokens]
    return 0 if words in ([], ["void"]) else commas + 1


def close_of(tokens, opened):
    """The place of the parenthesis that closes the one at `opened`."""
    depth = 0
    for i in range(opened, len(tokens)):
        depth += (tokens[i][1] == "(") - (tokens[i][1] == ")")
        if depth == 0:
            return i
    return len(tokens)


def head_of(tokens):
    """(name, number of parameters) of the function whose body follows these tokens, or None. Macros
    make functions in two ways: CLONES(static, name, (parameters), (arguments)) and TILE(name)(parameters)."""
    words = [token for _, token in tokens]
    i = 0
    while "(" in words[i:]:
        i += words[i:].index("(")
        end = close_of(tokens, i)
        name = words[i - 1] if i > 0 else ""
        if re.fullmatch(r"[A-Za-z_]\w*", name) and name not in NOT_A_NAME:
            if end + 1 < len(words) and words[end + 1] == "(":
                return words[i + 1], count_parameters(tokens[end + 2:close_of(tokens, end + 1)])
            if name.isupper() and "(" in words[i + 1:end]:
                inner = words.index("(", i + 1)
                return words[inner - 2], count_parameters(tokens[inner + 1:close_of(tokens, inner)])
            return name, count_parameters(tokens[i + 1:end])
        i = end + 1
    return None


def is_table(words):
    """Whether the brace behind these words opens values: there is a '=' outside of parentheses."""
    depth = 0
    for word in words:
        depth += (word == "(") - (word == ")")
        if word == "=" and depth == 0:
            return True
    return False


def functions(text):
    """(line, name, parameters, lines) of each function that a C, C++ or CUDA source defines."""
    tokens = [(number, token) for number, line in enumerate(code(text).split("\n"), 1)
              for token in TOKEN.findall(line)]
    head, i = [], 0
    while i < len(tokens):
        number, token = tokens[i]
        if token == "{" and head and head[0][1] in ("extern", "namespace") and not head_of(head):
            head = []  # extern "C" {
        elif token == "{":
            found, depth = None if is_table(t for _, t in head) else head_of(head), 0
            while i < len(tokens):
                depth += (tokens[i][1] == "{") - (tokens[i][1] == "}")
                if depth == 0:
                    break
                i += 1
            if found and i < len(tokens):
                yield head[0][0], *found, tokens[i][0] - head[0][0] + 1
                head = []
        elif token in ";}":
            head = []
        else:
            head.append((number, token))
        i += 1


def quantile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def check(tree, long=False):
    """Violations, and a line of figures."""
    lines, found = [], []
    for name in tree.names:
        ours = room_of(name) in USES and name.endswith(C_SUFFIXES)
        if not ours and not name.endswith(C_SUFFIXES + (".cpp", ".py", ".sh")):
            continue
        text = tree.text(name)
        count = text.count("\n")
        if count > FILE_LINES_MAX:
            yield f"{name}:{count}: more than {FILE_LINES_MAX} lines; look for a seam"
        if ours:
            lines.append(count)
            found += [(name, *f) for f in functions(text)]
    for name, number, function, _, length in found:
        if length > FUNCTION_LINES_MAX:
            yield f"{name}:{number}: {function} has {length} lines, more than the {FUNCTION_LINES_MAX} of a screen"
    many = [f for f in found if f[3] > PARAMETERS_P95]
    if long:
        yield from (f"{name}:{number}: {function} has {count} parameters" for name, number, function, count, _ in many)
    if not lines or not found:
        yield "no sources here"
        return
    if statistics.median(lines) >= FILE_LINES_MEDIAN:
        yield f"the median file has {statistics.median(lines):.0f} lines; fewer than {FILE_LINES_MEDIAN} are wanted"
    p95 = quantile([f[3] for f in found], 0.95)
    if p95 > PARAMETERS_P95:
        yield (f"{100 * len(many) / len(found):.1f} % of the functions have more than {PARAMETERS_P95} parameters; "
               "at most 5 % may (--long lists them)")
    lengths = [f[4] for f in found]
    print(f"sizes: {len(lines)} files, median {statistics.median(lines):.0f}, longest {max(lines)} lines; {len(found)} "
          f"functions, median {statistics.median(lengths):.0f}, p95 {quantile(lengths, 0.95)}, longest {max(lengths)} lines; "
          f"parameters p95 {p95}, most {max(f[3] for f in found)}, over {PARAMETERS_P95}: {100 * len(many) / len(found):.1f} %")


def main():
    arguments = [a for a in sys.argv[1:] if a != "--long"]
    bad = list(check(Tree(arguments[0] if arguments else "."), "--long" in sys.argv))
    print("\n".join(bad + [f"sizes: {len(bad)} violations" if bad else "sizes: ok"]))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
