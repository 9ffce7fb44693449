import base64
from pathlib import Path
from typing import Any

from unit.engine.tiny import result_of, storage_of, tiny_rank, train

from trainyard_trainer.metrics_table import join_pieces
from trainyard_trainer.report_page import build_page

RESULT: dict[str, Any] = {
    "job": "skin <1>",
    "recipe": "skin-lesion",
    "step": 40,
    "best_step": 30,
    "training_seconds": 12.4,
    "world_size": 2,
    "finished_at": "2026-11-21T14:00:00Z",
    "attempts": [{}, {}],
    "splits": {"test": {"samples": 9, "metrics": {"accuracy": 0.75}}, "train": {"metrics": {}}},
    "notes": {"skipped images": "2 of 90"},
    "config": {"training": {"epochs": 3}},
    "data": {"files": 3},
}
ROWS = join_pieces(
    [
        "step,epoch,stage,attempt,time,train_loss,val_loss,learning_rate\n"
        "10,0,train,1,t,1.5,2,0.1\n20,1,train,1,t,1,nan,0.1\n30,2,train,1,t,0.5,1,0.1\n"
    ]
)


def test_page_tells_metrics_notes_curves_pictures_and_configuration() -> None:
    page = build_page(RESULT, ROWS, {"val/roc": b"png"})
    assert "<title>skin &lt;1&gt;: skin-lesion</title>" in page
    assert "40 steps in 12 s of training on 2 rank(s), in 2 attempt(s)" in page
    assert "<th></th><th>test (9 samples)</th>" in page
    assert "<tr><td>accuracy</td><td>0.7500</td></tr>" in page
    assert "<tr><td>skipped images</td><td>2 of 90</td></tr>" in page
    assert page.count("<polyline") == 3
    assert f'src="data:image/png;base64,{base64.b64encode(b"png").decode()}"' in page
    assert "training:\n  epochs: 3" in page
    assert "nan" not in page.replace("finance", "")


def test_page_fetches_nothing() -> None:
    page = build_page(RESULT, ROWS, {"val/roc": b"png"})
    assert "http" not in page and "<script" not in page and "url(" not in page


def test_synthetic_data_is_named_in_the_title() -> None:
    mark = {"generator": "synth", "version": 1, "seed": 0}
    page = build_page(RESULT | {"data": {"synthetic": mark}}, ROWS, {})
    assert "<title>SYNTHETIC DATA: skin &lt;1&gt;: skin-lesion</title>" in page
    assert "no clinical result. Made by: generator synth, version 1, seed 0." in page


def test_run_leaves_its_page_and_its_marks_in_storage(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "SYNTHETIC.json").write_text('{"generator": "points", "version": 2, "seed": 3}')
    rank = tiny_rank(tmp_path, dataset_path=str(data), config={"show": True})
    train(rank)
    storage = storage_of(rank)
    page = storage.read("report.html").decode()
    assert "<title>SYNTHETIC DATA: tiny: tiny</title>" in page
    assert "<td>left out</td><td>3 points</td>" in page
    for name in ("val/points", "val_best/points", "test_best/points"):
        assert f'alt="{name}"' in page
        assert storage.read(f"pictures/{name}.png").startswith(b"\x89PNG")
    assert result_of(rank)["notes"] == {"left out": "3 points"}
