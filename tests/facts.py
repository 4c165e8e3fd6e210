"""Fifty facts, a question for each, and files that talk about the same things and do not answer."""

import random
import re
from collections.abc import Iterator
from typing import NamedTuple

PLACES = re.split(
    ",",
    "Aalborg,Bremen,Coimbra,Dundee,Espoo,Ferrara,Ghent,Haarlem,Innsbruck,Jena,Kaunas,Leuven,Malaga,Nantes,"
    "Odense,Porto,Rostock,Siena,Tampere,Utrecht,Varna,Wels,York,Zadar,Arnhem,Bergen,Cork,Delft,Essen,Faro,"
    "Gdansk,Hull,Ioannina,Klagenfurt,Lugano,Mainz,Namur,Oulu,Pilsen,Reims,Split,Trento,Umea,Vigo,Worms,"
    "Aarhus,Basel,Cadiz,Dijon,Erfurt",
)
PEOPLE = re.split(
    ",",
    "Okonkwo,Lindqvist,Marchetti,Yilmaz,Petrosyan,Vandenberg,Kowalczyk,Achterberg,Nakamura,Delacroix,Haugen,"
    "Ferreira,Novotny,Brannigan,Szabo,Papadakis,Ostrowski,Lehtinen,Moreau,Dragomir",
)
THINGS = re.split(
    ",",
    "centrifuge,cold store,loading dock,packing line,boiler,forklift fleet,clean room,data centre,paint shop,"
    "weighbridge,greenhouse,water tower,test bench,archive,canteen,chimney,pump house,helipad,laundry,"
    "sawmill,switchboard,transformer,welding shop,crane,silo,conveyor,kiln,quay,workshop,foundry",
)
FACTS = (
    ("Safety", "{person} inspects the {thing} twice a year.", "Who inspects the {thing} in {place}?"),
    ("Contracts", "The lease was signed by {person} in March.", "Who signed the lease for the {thing} in {place}?"),
    ("Contracts", "It is insured through {person} and partners.", "Through whom is the {place} {thing} insured?"),
    ("Access", "The emergency key lies with {person}.", "Who has the emergency key of the {thing} in {place}?"),
    ("Upkeep", "Broken parts are repaired by {person} on Sundays.", "Who repairs the {thing} in {place} on Sundays?"),
    ("Safety", "A fire drill led by {person} takes nine minutes.", "Who leads the fire drill at the {place} {thing}?"),
    ("Upkeep", "{person} supplies the spare valves.", "Who supplies spare valves for the {thing} in {place}?"),
    ("Access", "Visitors are registered by {person} at the gate.", "Who registers visitors of the {place} {thing}?"),
    ("History", "The architect was {person}, then a student.", "Which architect built the {thing} in {place}?"),
    ("History", "It was opened by {person} on a rainy day.", "Who opened the {thing} in {place}?"),
)
TALK = {
    "Safety": (
        "Shoes with steel caps are worn everywhere in the {thing}.",
        "Nobody works alone after dark.",
        "The alarm is tried on the first Monday of the month.",
        "Helmets hang beside the entrance.",
    ),
    "Contracts": (
        "Invoices for the {thing} go to the head office.",
        "The terms are renewed every five years.",
        "Each change needs two signatures.",
        "The landlord pays for the roof.",
    ),
    "Access": (
        "The {thing} can be reached from the north road.",
        "Doors close at eight in the evening.",
        "Badges are shown on request.",
        "Parking is free on weekends.",
    ),
    "Upkeep": (
        "The {thing} is cleaned once a week.",
        "Filters are changed before the winter.",
        "A log book lies on the shelf.",
        "Noise has been measured and is low.",
    ),
    "History": (
        "The {thing} in {place} has grown since then.",
        "A first plan was given up for lack of money.",
        "Old photographs hang in the corridor.",
        "The second hall came ten years later.",
    ),
}


class Fact(NamedTuple):
    """A sentence that answers a question, and the file that has it."""

    sentence: str
    question: str
    file: str


def site(number: int) -> dict[str, str]:
    """What the file of a number is about; no two are about the same."""
    old = "old " if number >= len(PLACES) * len(THINGS) else ""
    thing = THINGS[(number % len(PLACES) + number // len(PLACES)) % len(THINGS)]
    return {"place": PLACES[number % len(PLACES)], "thing": f"{old}{thing}", "person": PEOPLE[number * 7 % len(PEOPLE)]}


def file_name(number: int) -> str:
    """How the file of a number is called."""
    return f"site-{number:04}.md"


def facts(files: int) -> list[Fact]:
    """Fifty, each in a file of its own out of that many."""
    found = []
    for n in range(50):
        number = n * files // 50
        _, telling, asking = FACTS[n % len(FACTS)]
        found.append(Fact(telling.format(**site(number)), asking.format(**site(number)), file_name(number)))
    return found


def documents(files: int) -> Iterator[tuple[str, str]]:
    """The files by name: a page for each site, whose sections have some of the talk and at most one fact."""
    chance = random.Random(7)
    planted = {fact.file: (FACTS[n % len(FACTS)][0], fact.sentence) for n, fact in enumerate(facts(files))}
    for number in range(files):
        about, name = site(number), file_name(number)
        sections = []
        for heading, talk in TALK.items():
            told = [line.format(**about) for line in chance.sample(talk, 3)]
            if planted.get(name, ("",))[0] == heading:
                told.insert(chance.randrange(4), planted[name][1])
            sections.append(f"## {heading}\n\n{' '.join(told)}\n")
        yield name, f"# The {about['thing']} in {about['place']}\n\n" + "\n".join(sections)
