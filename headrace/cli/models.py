"""Commands on models: models, train, policy, versions, rollouts, promote, rollback, export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from headrace.cli.command import as_json, command, on_engine
from headrace.errors import ModelError, SettingError
from headrace.operate.printing import print_json, print_table

if TYPE_CHECKING:
    from headrace.engine import Engine
    from headrace.settings import Settings


@command(example="headrace train churn")
@click.argument("model")
@click.option("--off", is_flag=True, help="Stop this: the model is watched only.")
@as_json
@on_engine
def train(engine: Engine, model: str, off: bool, as_json: bool) -> None:
    """Train versions of a model, and promote those that are better."""
    from headrace.control.handover import hand_over, told

    report = hand_over(engine, model, learns=not off)
    if as_json:
        print_json(report)
    else:
        print(*told(report), sep="\n")


@command(example="headrace models", needs=("engine",))
@click.option("--schema", is_flag=True, help="The JSON Schema of headrace.toml instead.")
@as_json
def models(settings: Settings, schema: bool, as_json: bool) -> None:
    """Check headrace.toml, and list what it declares."""
    import msgspec

    from headrace.alerting.receivers import read_receivers
    from headrace.declared import Declared, chosen, read_declared, toml_schema

    if schema:
        print_json(toml_schema())
        return
    declared = read_declared(settings.models_path)
    read_receivers(settings.models_path)
    if as_json:
        print_json(
            [
                {
                    "model": name,
                    **msgspec.to_builtins(one),
                    "config": msgspec.to_builtins(chosen(one)[1]) if one.recipe else {},
                }
                for name, one in declared.items()
            ]
        )
        return
    if not declared:
        print(f"{settings.models} declares no model; every model is watched only, or by its policy")
    for name, one in declared.items():
        print(f"{name}: {one.recipe or 'the recipe by its events'}")
        for key, value in msgspec.to_builtins(one).items():
            if key != "recipe" and getattr(one, key) != getattr(Declared(), key):
                print(f"    {key:10} {_given(value)}")


def _given(value: object) -> str:
    """What a key holds, without what is not given."""
    if isinstance(value, dict):
        return ", ".join(f"{key} = {one}" for key, one in value.items() if one is not None)
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


@command(example="headrace policy churn min_new_labels=500 cooldown='1 hour'")
@click.argument("model")
@click.argument("values", nargs=-1, metavar="[POLICY=VALUE]...")
@as_json
@on_engine
def policy(engine: Engine, model: str, values: tuple[str, ...], as_json: bool) -> None:
    """Show or set the policies of a model.

    The model '*' holds the defaults of all models. An empty VALUE resets a policy.
    """
    from headrace.control import policies

    changes: dict[str, str | None] = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not equals:
            raise SettingError(f"{text}: must have the form POLICY=VALUE")
        changes[name] = value or None
    result = policies.write(engine, model, changes)
    if as_json:
        print_json(result)
        return
    for name, value in result["policies"].items():
        print(f"{name:18} {value}{'' if name in result['own'] else '   (default)'}")


@command(example="headrace correct churn 0199a3f2 fraud", needs=("engine", "features", "model"))
@click.argument("model")
@click.argument("request_id")
@click.argument("label")
@on_engine
def correct(engine: Engine, model: str, request_id: str, label: str) -> None:
    """Set the answer to a request's input at once, by a version of its own.

    It stays in all versions after it. For a model to learn from it, send it as feedback, too.
    """
    from headrace.trainer.steps import correct

    version = correct(engine, model, request_id, label)
    print(f"{model} {version} serves; it answers {label} to the input of {request_id}")
    print(f"to take it back: headrace rollback {model}")


@command(example="headrace versions churn v3")
@click.argument("model")
@click.argument("model_version", required=False)
@as_json
@on_engine
def versions(engine: Engine, model: str, model_version: str | None, as_json: bool) -> None:
    """List the versions of a model, or tell the story of one."""
    if model_version is None:
        rows = engine.rows(
            "select model_version, status, traffic, trained_at, promoted_at, reason "
            "from headrace.model_versions where model = %s order by trained_at, model_version",
            [model],
        )
    else:
        rows = engine.rows(
            "select event_time, event, traffic, reason from events.model_events "
            "where model = %s and model_version = %s order by event_time, ingested_at, event_id",
            [model, model_version],
        )
    if not rows and not as_json:
        known = "headrace status" if model_version is None else f"headrace versions {model}"
        raise ModelError(f"no version {model_version or ''} of {model!r} is known; see {known}")
    (print_json if as_json else print_table)(rows)


@command(example="headrace rollouts churn")
@click.argument("model", required=False)
@as_json
@on_engine
def rollouts(engine: Engine, model: str | None, as_json: bool) -> None:
    """List the versions on their way to champion, with what comes next and what it waits for."""
    rows = engine.rows(
        "select model, model_version, stage, traffic, since, next_event, next_traffic, "
        "held_back_by, reason from headrace.rollout_trigger "
        "where %s::text is null or model = %s order by model, since",
        [model, model],
    )
    if rows or as_json:
        (print_json if as_json else print_table)(rows)
    else:
        print("no version is on its way; headrace versions MODEL lists what there is")


@command(example="headrace rollout churn --pause")
@click.argument("model")
@click.option("--pause", "state", flag_value="paused", help="Versions are only taken back.")
@click.option("--pin", "state", flag_value="pinned", help="What serves goes on serving.")
@click.option("--resume", "state", flag_value="on", help="Versions advance and are taken back.")
@as_json
@on_engine
def rollout(engine: Engine, model: str, state: str | None, as_json: bool) -> None:
    """Show or set what Headrace does by itself with the versions of a model (policy rollout)."""
    from headrace.control import policies

    told = policies.write(engine, model, {"rollout": state} if state else {})
    now = told["policies"]["rollout"]
    if as_json:
        print_json({"model": model, "rollout": now})
        return
    does = {
        "on": "versions advance and are taken back by themselves",
        "paused": "versions are only taken back; none advances",
        "pinned": "what serves goes on serving; nothing is taken back",
    }
    print(f"{model}: {now}: {does[now]}")


@command(example="headrace promote churn v3 --traffic 0.1")
@click.argument("model")
@click.argument("model_version")
@click.option("--traffic", type=float, help="Share of requests in (0, 1): serve as a canary.")
@on_engine
def promote(engine: Engine, model: str, model_version: str, traffic: float | None) -> None:
    """Let a published version serve all requests or a share of them."""
    from headrace.control import lifecycle

    lifecycle.promote(engine, model, model_version, traffic=traffic)
    print(f"{model} {model_version} serves")


@command(example="headrace rollback churn --reason 'wrong labels'")
@click.argument("model")
@click.option("--version", "model_version", help="Another one than the champion.")
@click.option("--reason", default="by hand", show_default=True)
@on_engine
def rollback(engine: Engine, model: str, model_version: str | None, reason: str) -> None:
    """Take a version back, the champion unless one is named; the one before it serves again."""
    from headrace.control import lifecycle

    taken, serving = lifecycle.rollback(engine, model, reason, model_version)
    print(f"{model} {taken} was taken back; {serving or 'nothing'} serves")


@command(example="headrace export churn v3 --to churn-v3", needs=("engine", "model"))
@click.argument("model")
@click.argument("model_version", required=False)
@click.option(
    "--to", "target", type=click.Path(path_type=Path), required=True, help="Folder to make."
)
@as_json
@on_engine
def export(
    engine: Engine, model: str, model_version: str | None, target: Path, as_json: bool
) -> None:
    """Write a version of texts as a folder that answers offline.

    It holds ONNX, tokenizer and run.py, which needs onnxruntime, numpy and tokenizers, keeps
    questions and feedback, and sends them once there is a gateway. MODEL_VERSION is the champion
    where it is not given.
    """
    from headrace.control.lifecycle import published_version
    from headrace.model.artifact import artifact_path
    from headrace.model.edge.bundle import write_bundle

    version, uri = published_version(engine, model, model_version)
    folder = artifact_path(uri, engine.settings.artifacts_path)
    facts = write_bundle(folder, model, version, target)
    if as_json:
        print_json({"folder": str(target), **facts})
        return
    print(f"{model} {version} is in {target}, with weights in {facts['precision']}")
    print(f"to ask it: python {target / 'run.py'} predict 'a text'")
