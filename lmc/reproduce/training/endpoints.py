"""Endpoints on a device: trained in pieces that a time budget allows, kept as stock checkpoints."""

import hashlib
import json
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from lmc import checkpoints
from lmc.checkpoints import provenance
from lmc.evaluation import losses
from lmc.files import read_json, refuse_other_run, write_whole
from lmc.reproduce.training.budget import Budget, BudgetSpent
from lmc.reproduce.training.settings import Setting
from lmc.reproduce.training.tasks import Task
from lmc.reproduce.training.trainer import ORDER_SEED, Trainer

SAVE_EVERY = 60.0  # seconds: what a killed run may lose


def autocast(device: torch.device, bf16: bool) -> Any:
    """The precision of a step: bfloat16 products, or float32."""
    return torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext()


def train_endpoint(
    setting: Setting,
    seed: int,
    folder: Path,
    task: Task,
    device: torch.device,
    budget: Budget,
    compiled: bool = False,
) -> Path:
    """The stock checkpoint of one endpoint, trained now or before; its record lies beside it as `.json`.

    >>> text = task_of(setting.shape, setting.corpus, Path("inputs"))
    >>> train_endpoint(setting, 0, Path("endpoints"), text, torch.device("cpu"), Budget(540)).name
    'seed-0'

    Raises BudgetSpent when the time is over, with everything kept for the next call, and CheckpointError where the
    folder holds endpoints of other settings.
    """
    recipe = setting.recipe
    refuse_other_run(folder, _trained_as(setting))
    done, state, record = (folder / f"seed-{seed}{suffix}" for suffix in ("", ".state.safetensors", ".json"))
    if done.is_dir():
        return done
    budget.check()
    with torch.random.fork_rng(devices=[]):  # stock models draw their first weights from the global generator
        torch.manual_seed(seed)
        model = setting.shape.build().to(device)
    trainer = Trainer(model, recipe)
    before = 0.0
    if state.is_file():
        trainer.restore(state)
        before = read_json(record)["seconds"]
    if compiled:
        model.compile()
    began = saved = time.monotonic()

    def keep() -> None:
        trainer.save(state)
        write_whole(record, json.dumps(_record(seed, trainer, before + time.monotonic() - began)))

    with tqdm(total=recipe.steps, initial=trainer.step, desc=f"{setting.id}, seed {seed}", disable=None) as bar:
        while trainer.step < recipe.steps:
            if budget.left() <= 0:
                keep()
                raise BudgetSpent(f"{setting.id}, seed {seed}: {trainer.step} of {recipe.steps} steps are kept")
            if time.monotonic() - saved > SAVE_EVERY:
                keep()
                saved = time.monotonic()
            batch = task.draw(recipe.batch, order_of(seed, trainer.step))
            with autocast(device, setting.bf16):
                loss = losses(model, batch).mean()
            trainer.descend(loss)
            bar.update()
    write_whole(record, json.dumps(_record(seed, trainer, before + time.monotonic() - began)))
    plain = setting.shape.build()  # not compiled, on the CPU
    plain.load_state_dict({name: tensor.cpu() for name, tensor in model.state_dict().items()})
    checkpoints.save(plain.eval(), done)
    state.unlink(missing_ok=True)
    return done


def order_of(seed: int, step: int) -> torch.Generator:
    """What draws the batch of a step: it depends on seed and step alone, so a run taken up again sees the same."""
    return torch.Generator().manual_seed((ORDER_SEED + seed) * 1_000_003 + step)


def endpoint_folder(setting: Setting, folder: Path) -> Path:
    """Where the setting's endpoints are: settings that train the same ones share them."""
    key = hashlib.sha256(json.dumps(_trained_as(setting), sort_keys=True).encode()).hexdigest()[:12]
    return folder / "endpoints" / key


def _trained_as(setting: Setting) -> dict[str, Any]:
    """All that decides an endpoint, but its seed."""
    shape = {"model": type(setting.shape).__name__} | asdict(setting.shape)
    return {"shape": shape, "corpus": setting.corpus, "recipe": asdict(setting.recipe), "bf16": setting.bf16}


def _record(seed: int, trainer: Trainer, seconds: float) -> dict[str, Any]:
    return {"seed": seed, "seconds": round(seconds, 1), "curve": trainer.curve, "hardware": provenance.hardware()}
