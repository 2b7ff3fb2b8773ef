"""Trackers of experiments for daps-kit. What a tracker needs is imported when a run begins, not before."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from daps_kit.hooks import hookimpl
from daps_kit.trackers import Tracker

__all__ = ["Aim", "MLflow", "TensorBoard", "Trackio", "WandB", "daps_trackers"]

PROJECT = "daps-kit"
"""Experiment or project of runs, where the tracker's own environment variable names none."""


class MLflow(Tracker):
    """MLflow: a run of the experiment MLFLOW_EXPERIMENT_NAME, at MLFLOW_TRACKING_URI."""

    name = "mlflow"

    def begin(self, run: str, folder: Path, recipe: str) -> None:
        """Start a run; another that is active stays so."""
        from mlflow import MlflowClient

        self.client = MlflowClient()
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        known = self.client.get_experiment_by_name(experiment)
        number = known.experiment_id if known else self.client.create_experiment(experiment)
        self.run = self.client.create_run(number, run_name=run, tags={"folder": str(folder)}).info.run_id
        self.samples = self.lost = 0
        self.client.log_text(self.run, recipe, "recipe.yaml")

    def level(self, step: int, sigma: float, residual: float) -> None:
        """Log sigma and residual."""
        self.client.log_metric(self.run, "sigma", sigma, step=step)
        self.client.log_metric(self.run, "residual", residual, step=step)

    def sample(self, image: str, run: int, lost: bool) -> None:
        """Count samples, and those that are lost."""
        self.samples += 1
        self.lost += lost
        self.client.log_metric(self.run, "samples", self.samples)
        self.client.log_metric(self.run, "lost", self.lost)

    def metrics(self, values: Mapping[str, float]) -> None:
        """Log the numbers."""
        for name, value in values.items():
            self.client.log_metric(self.run, name, value)

    def picture(self, name: str, file: Path) -> None:
        """Keep the picture as an artifact."""
        self.client.log_artifact(self.run, str(file))

    def end(self, error: str) -> None:
        """Close the run."""
        if error:
            self.client.set_tag(self.run, "error", error)
        self.client.set_terminated(self.run, "FAILED" if error else "FINISHED")


class TensorBoard(Tracker):
    """TensorBoard: an event file in the folder `tensorboard` of the results, or in one of TENSORBOARD_LOGDIR."""

    name = "tensorboard"

    def begin(self, run: str, folder: Path, recipe: str) -> None:
        """Open the event file."""
        from torch.utils.tensorboard import SummaryWriter

        root = os.environ.get("TENSORBOARD_LOGDIR")
        self.writer: Any = SummaryWriter(str(Path(root) / run if root else folder / "tensorboard"))
        self.writer.add_text("recipe", "".join(f"    {line}\n" for line in recipe.splitlines()))
        self.samples = self.lost = 0

    def level(self, step: int, sigma: float, residual: float) -> None:
        """Add sigma and residual."""
        self.writer.add_scalar("sigma", sigma, step)
        self.writer.add_scalar("residual", residual, step)

    def sample(self, image: str, run: int, lost: bool) -> None:
        """Count samples that are lost."""
        self.samples += 1
        self.lost += lost
        self.writer.add_scalar("lost", self.lost, self.samples)

    def metrics(self, values: Mapping[str, float]) -> None:
        """Add the numbers."""
        for name, value in values.items():
            self.writer.add_scalar(name, value)

    def picture(self, name: str, file: Path) -> None:
        """Add the picture."""
        import numpy as np
        from PIL import Image

        with Image.open(file) as picture:
            self.writer.add_image(name, np.asarray(picture.convert("RGB")), dataformats="HWC")

    def end(self, error: str) -> None:
        """Close the event file."""
        self.writer.close()


class WandB(Tracker):
    """Weights & Biases: a run of the project WANDB_PROJECT; WANDB_MODE=offline keeps it on this machine."""

    name = "wandb"
    library = "wandb"
    variable = "WANDB_PROJECT"

    def begin(self, run: str, folder: Path, recipe: str) -> None:
        """Start a run, whose configuration is the recipe."""
        from importlib import import_module

        import yaml

        self.library_: Any = import_module(self.library)
        self.run: Any = self.library_.init(
            project=os.environ.get(self.variable, PROJECT),
            name=run.replace("/", "-"),
            config=yaml.safe_load(recipe),
            **self.options(folder),
        )
        self.samples = self.lost = 0

    def options(self, folder: Path) -> dict[str, Any]:
        """Return what else starts a run: its files lie in the folder of the results."""
        return {"dir": str(folder), "reinit": "create_new"}

    def level(self, step: int, sigma: float, residual: float) -> None:
        """Log sigma and residual."""
        self.run.log({"level": step, "sigma": sigma, "residual": residual})

    def sample(self, image: str, run: int, lost: bool) -> None:
        """Count samples, and those that are lost."""
        self.samples += 1
        self.lost += lost
        self.run.log({"samples": self.samples, "lost": self.lost})

    def metrics(self, values: Mapping[str, float]) -> None:
        """Log the numbers."""
        self.run.log(dict(values))

    def picture(self, name: str, file: Path) -> None:
        """Log the picture."""
        self.run.log({name: self.library_.Image(str(file))})

    def end(self, error: str) -> None:
        """Close the run."""
        self.run.finish(exit_code=1 if error else 0)


class Trackio(WandB):
    """Trackio: the interface of Weights & Biases, on this machine; the project is TRACKIO_PROJECT."""

    name = "trackio"
    library = "trackio"
    variable = "TRACKIO_PROJECT"

    def options(self, folder: Path) -> dict[str, Any]:
        """Return nothing: it knows no folder."""
        return {}

    def end(self, error: str) -> None:
        """Close the run."""
        self.run.finish()


class Aim(Tracker):
    """Aim: a run of the experiment daps-kit in the nearest folder .aim, or a new one where the run is begun."""

    name = "aim"

    def begin(self, run: str, folder: Path, recipe: str) -> None:
        """Start a run, of whose machine and terminal nothing is recorded."""
        import aim
        import yaml

        self.picture_of = aim.Image
        self.run: Any = aim.Run(
            experiment=PROJECT, system_tracking_interval=None, capture_terminal_logs=False
        )
        self.run.name = run
        self.run["recipe"] = yaml.safe_load(recipe)
        self.run["folder"] = str(folder)
        self.samples = self.lost = 0

    def level(self, step: int, sigma: float, residual: float) -> None:
        """Track sigma and residual."""
        self.run.track({"sigma": sigma, "residual": residual}, step=step)

    def sample(self, image: str, run: int, lost: bool) -> None:
        """Count samples, and those that are lost."""
        self.samples += 1
        self.lost += lost
        self.run.track({"samples": self.samples, "lost": self.lost}, step=self.samples)

    def metrics(self, values: Mapping[str, float]) -> None:
        """Track the numbers."""
        self.run.track(dict(values))

    def picture(self, name: str, file: Path) -> None:
        """Track the picture."""
        self.run.track(self.picture_of(str(file)), name=name)

    def end(self, error: str) -> None:
        """Close the run."""
        if error:
            self.run["error"] = error
        self.run.close()


@hookimpl
def daps_trackers() -> list[type[Tracker]]:
    """Return the trackers."""
    return [MLflow, TensorBoard, WandB, Trackio, Aim]
