from trainyard_trainer.outbox import Outbox, Piece
from trainyard_trainer.storage import Storage


def test_a_large_piece_pushes_out_nothing_that_came_before_it() -> None:
    box = Outbox(Storage.__new__(Storage), most_bytes=10)
    for size in (6, 100):
        box.put(Piece(key=str(size), data=bytes(size)))
    assert (len(box), box.lost) == (2, 0)


def test_beyond_the_bound_the_oldest_are_given_up_and_counted() -> None:
    box = Outbox(Storage.__new__(Storage), most_bytes=10)
    for size in (6, 6, 6):
        box.put(Piece(key=str(size), data=bytes(size)))
    assert (len(box), box.lost) == (2, 1)
