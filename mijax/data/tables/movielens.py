"""MovieLens-100k by user: who somebody is, and how they rate each genre.

943 users, from the files that the package `recbole` carries. Sensitive are gender and
age group; the target is a user's mean rating. GroupLens allows research and no
redistribution.

References:
  Harper, Konstan. The MovieLens datasets: history and context. ACM TiiS 2015.
  doi:10.1145/2827872.
"""

import os

import numpy as np

from mijax.data.tables import files
from mijax.data.tables.columns import coded, number, read
from mijax.data.tables.table import Change, Field, Numeric, Table, cut

_SHA256 = {
    "ml-100k.user": "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
    "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
    "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
}
_AGES = (25, 35, 45)


def load(data_dir: str | os.PathLike[str] | None = None) -> Table:
    """Loads one row a user: the mean rating of each genre, of all where there is none.

    Raises:
      FileNotFoundError: `recbole` is not installed, nor are its files in `data_dir`.
    """
    users, films, ratings = (_read(file, data_dir) for file in _SHA256)
    names = sorted({genre for text in films["class"] for genre in text.split()})
    names = [genre for genre in names if genre != "unknown"]
    of_film = {
        film: [genre in text.split() for genre in names]
        for film, text in zip(films["item_id"], films["class"], strict=True)
    }
    row = {user: i for i, user in enumerate(users["user_id"])}
    who = np.array([row[user] for user in ratings["user_id"]])
    rating = number(ratings["rating"])
    genres = np.array([of_film[film] for film in ratings["item_id"]], float)  # [R, G]

    total, count = np.zeros((2, len(row), len(names)))
    np.add.at(total, who, genres * rating[:, None])
    np.add.at(count, who, genres)
    films_rated = np.bincount(who)
    mean = np.bincount(who, rating) / films_rated
    by_genre = np.where(count > 0, total / np.maximum(count, 1), mean[:, None])

    gender, genders = coded("gender", users["gender"])
    work, works = coded("occupation", users["occupation"])
    fields: list[Field] = [gender, Numeric("age"), work, Numeric("films")]
    columns = {
        "gender": genders,
        "age": number(users["age"]),
        "occupation": works,
        "films": films_rated.astype(float),
    }
    for genre, values in zip(names, by_genre.T, strict=True):
        fields.append(Numeric(genre))
        columns[genre] = values
    fields.append(Numeric("rating"))
    columns["rating"] = mean
    table = Table(
        "MovieLens-100k, by user", tuple(fields), columns, ("gender",), "rating"
    )
    table = cut(table, "age", _AGES)
    gaps = int((count == 0).any(1).sum())
    change = Change(gaps, "no film of some genre: the mean of all their films")
    return table.replace(table.field("rating"), mean, change)


def _read(file: str, data_dir: str | os.PathLike[str] | None) -> dict[str, list[str]]:
    package = "recbole", "dataset_example", "ml-100k", file
    path = files.checked(files.find(file, data_dir, *package), _SHA256[file])
    columns = read(path, delimiter="\t")
    return {name.split(":")[0]: values for name, values in columns.items()}
