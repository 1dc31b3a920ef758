"""`agent99 cache get`, `set` and `delete`: the keys of a namespace."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import msgspec
import typer

from agent99.cli._exits import Exit, RefusalError
from agent99.cli._join import join, run_async
from agent99.cli._scope import Scope
from agent99.cli._show import compact, count, print_json, tell
from agent99.cli._values import parse_value
from agent99.cli._where import parse_age_s

Key = Annotated[str, typer.Argument(help="Up to 1,024 bytes of UTF-8.")]


class KeyOptions(msgspec.Struct, frozen=True):
    """Of all commands about keys."""

    namespace: Annotated[
        str, typer.Option("--namespace", "-n", metavar="NAME", help="Of the key; else default.")
    ] = "default"


class GetOptions(KeyOptions, frozen=True):
    """The options of `agent99 cache get` alone."""

    raw: Annotated[
        bool, typer.Option("--raw", help="Write the value's own bytes, and no end of line.")
    ] = False


class SetOptions(KeyOptions, frozen=True):
    """The options of `agent99 cache set` alone."""

    ttl: Annotated[
        str, typer.Option("--ttl", metavar="TIME", help="Until it ends: 30s, 5m, 1h, 2d.")
    ] = ""
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", metavar="TAG", help="By which it can be deleted; may be repeated."),
    ] = None
    raw: Annotated[bool, typer.Option("--raw", help="Store the bytes that are given.")] = False


class DeleteOptions(KeyOptions, frozen=True):
    """The options of `agent99 cache delete` alone."""

    tag: Annotated[
        str | None, typer.Option("--tag", metavar="TAG", help="All keys that were set with it.")
    ] = None
    prefix: Annotated[
        str | None, typer.Option("--prefix", metavar="TEXT", help="All keys that begin so.")
    ] = None


# --- get ------------------------------------------------------------------------------------------


def get(scope: Scope, options: GetOptions, key: Key) -> int:
    r"""Print what the cache has for a key, as JSON.

    \b
    agent99 cache get greeting
    agent99 cache get logo --namespace shop --raw > logo.png
    agent99 cache get greeting --json | jq .expires_at

    Bytes are printed in base64, unless --raw. Exit code 3 if there is nothing.
    """
    return run_async(_get(scope, options, key))


async def _get(scope: Scope, options: GetOptions, key: str) -> int:
    async with join(scope) as mesh:
        cache = await mesh.cache(options.namespace)
        hit = await cache.fetch(key)
        if hit is None:
            raise _no_key(key, cache.namespace)
        owner = cache.owner(key)
    if scope.json:
        about = {"key": key, "namespace": cache.namespace, "value": hit.value, "kind": _kind(hit)}
        print_json({**about, "version": hit.version, "expires_at": hit.expires_at, "owner": owner})
    elif options.raw:
        sys.stdout.flush()
        sys.stdout.buffer.write(_bytes_of(hit.value))
        sys.stdout.buffer.flush()
    else:
        tell(compact(hit.value))
    return Exit.OK


def _kind(hit: Any) -> str:
    if isinstance(hit.value, bytes):
        return "bytes"
    return "text" if isinstance(hit.value, str) else "json"


def _bytes_of(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return value.encode() if isinstance(value, str) else msgspec.json.encode(value)


def _no_key(key: str, namespace: str) -> RefusalError:
    message = f"the cache has no key {key!r} in namespace {namespace!r}"
    return RefusalError(message, Exit.NOBODY, code="NO_KEY")


# --- set ------------------------------------------------------------------------------------------


def set_(
    scope: Scope,
    options: SetOptions,
    key: Key,
    value: Annotated[str, typer.Argument(help="JSON where it is JSON, else text; '-': stdin.")],
) -> int:
    r"""Set a key; done = its owner and every copy in sync have it.

    \b
    agent99 cache set greeting hello
    agent99 cache set price '{"pence": 250}' --ttl 5m --tag prices --namespace shop
    agent99 cache set logo - --raw < logo.png
    """
    data = _given(value, is_raw=options.raw)
    return run_async(_set(scope, options, key, data))


def _given(value: str, *, is_raw: bool) -> Any:
    if is_raw:
        return sys.stdin.buffer.read() if value == "-" else value.encode(errors="surrogateescape")
    return parse_value(sys.stdin.read() if value == "-" else value, "VALUE")


async def _set(scope: Scope, options: SetOptions, key: str, value: Any) -> int:
    ttl_s = parse_age_s(options.ttl) if options.ttl else None
    async with join(scope) as mesh:
        cache = await mesh.cache(options.namespace)
        version = await cache.set(key, value, ttl_s=ttl_s, tags=options.tag or ())
        expires_at, owner = cache.moment(ttl_s), cache.owner(key)
    if scope.json:
        about = {"key": key, "namespace": cache.namespace, "version": version}
        print_json({**about, "expires_at": expires_at, "owner": owner})
    else:
        tell(f"set: {key}")
    return Exit.OK


# --- delete ---------------------------------------------------------------------------------------


def delete(
    scope: Scope,
    options: DeleteOptions,
    keys: Annotated[list[str] | None, typer.Argument(metavar="[KEY]...")] = None,
) -> int:
    r"""Delete keys, by name, by a tag, or by how they begin.

    \b
    agent99 cache delete greeting farewell
    agent99 cache delete --tag prices --namespace shop
    agent99 cache delete --prefix user:17:

    Exit code 3 if none was there.
    """
    ways = [bool(keys), options.tag is not None, options.prefix is not None]
    if sum(ways) != 1:
        raise RefusalError("say which keys: by their names, by --tag, or by --prefix")
    return run_async(_delete(scope, options, keys or []))


async def _delete(scope: Scope, options: DeleteOptions, keys: list[str]) -> int:
    async with join(scope) as mesh:
        cache = await mesh.cache(options.namespace)
        if options.tag is not None:
            deleted, what = await cache.invalidate_tag(options.tag), f"with tag {options.tag!r}"
        elif options.prefix is not None:
            deleted = await cache.invalidate_prefix(options.prefix)
            what = f"that begins with {options.prefix!r}"
        else:
            deleted, what = await cache.delete_many(keys), " or ".join(map(repr, keys))
    if not deleted:
        message = f"the cache has no key {what} in namespace {cache.namespace!r}"
        raise RefusalError(message, Exit.NOBODY, code="NO_KEY")
    if scope.json:
        print_json({"namespace": cache.namespace, "deleted": deleted})
    else:
        tell(f"deleted {count(deleted, 'key')}")
    return Exit.OK
