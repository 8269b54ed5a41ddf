"""What a server is told is what the settings of its signal say."""

from __future__ import annotations

import pytest

from storage.serving import server
from stream.servers import serve_storage
from stream.settings import load_settings


@pytest.mark.parametrize("store_class", ["rocksdb", "my_package.my_store:MyStore"])
def test_the_store_is_the_one_that_the_settings_name(store_class: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[server.StorageServerSettings] = []
    monkeypatch.setattr(server, "serve", told.append)
    settings = load_settings()
    photos = settings.signals["photos"].model_copy(update={"store_class": store_class})
    serve_storage(settings.model_copy(update={"signals": {"photos": photos}}))
    assert [one.store_class for one in told] == [store_class]
    assert told[0].folder == settings.data_dir / "signals" / "photos" / "store"
