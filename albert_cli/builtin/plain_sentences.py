"""Plain sentences of everyday things, composed at random: what books and manuals lack, and short texts are full of.

People and animals doing things, as one describes a picture; questions and remarks; headlines. The texts are the
toolkit's own; a teacher's vectors give them their meaning (see build.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

_PEOPLE = """man woman boy girl child baby person lady guy teenager toddler student teacher doctor nurse farmer soldier
singer dancer chef cook worker policeman firefighter player runner cyclist rider musician artist photographer sailor
father mother grandmother grandfather brother sister friend neighbor customer waiter driver pilot couple family group
crowd team""".split()
_ADJECTIVES = """young old tall short little small big thin happy sad tired angry smiling laughing blond bearded bald
elderly beautiful strong""".split()
_COLOURS = "red blue green yellow black white brown orange pink purple grey golden".split()
_CLOTHES = """shirt jacket coat hat dress suit uniform sweater helmet costume swimsuit scarf cap jeans skirt robe
glasses apron""".split()
_ANIMALS = """dog cat horse cow sheep goat pig chicken duck bird puppy kitten rabbit monkey elephant lion tiger bear panda
fish turtle frog snake squirrel mouse deer fox wolf parrot eagle penguin dolphin camel zebra giraffe""".split()
_PLACES = """in the park|on the beach|in the street|in a field|in the kitchen|at the table|on a bench|in the garden|in
the snow|on the grass|in the water|near the lake|by the river|in the forest|on the stage|in a classroom|at a party|in the
living room|on a bridge|in the mountains|in the rain|on the sidewalk|at the market|in the office|on the floor|in the bed|in
a restaurant|at the airport|on the train|in front of a house|next to a car|under a tree|behind a fence|outside a shop|in
the dark|in the sun|on the roof|in a boat|at the station|in the city|on a couch""".replace("\n", " ").split("|")
_ALONE = """running walking standing sitting sleeping jumping dancing singing swimming laughing crying smiling waiting
resting talking shouting climbing falling exercising working playing thinking praying kneeling skating skiing surfing
hiking jogging stretching whispering waving eating drinking reading writing drawing painting cooking fishing""".split()
_BEASTLY = """running walking standing sitting sleeping jumping swimming playing eating drinking barking hiding resting
hunting climbing digging|lying down|chasing a ball|chasing a bird|catching a stick|licking its paw|looking at the
camera|drinking water|eating grass|eating food from a bowl|swimming in a pool|running through the grass|lying on the
floor|sitting on a chair|looking out of the window|playing with a toy|splashing in the water""".replace("\n", " ")
_DEEDS = {
    "playing": """guitar|piano|violin|flute|drums|trumpet|harp|cello|football|soccer|basketball|tennis|baseball|golf|chess|
cards|a game|a video game|volleyball|hockey|a board game""",
    "riding": "a horse|a bicycle|a bike|a motorcycle|a skateboard|a bus|an elephant|a scooter|a wave|a camel|a donkey",
    "cutting": "an onion|a potato|a tomato|paper|vegetables|meat|bread|a cake|wood|hair|a pineapple|carrots|a cucumber",
    "slicing": "an onion|a potato|a tomato|garlic|bread|a carrot|ginger|a lemon|cheese|ham|a mushroom|a pepper",
    "peeling": "a potato|an apple|an orange|a banana|shrimp|a carrot",
    "cooking": "dinner|eggs|rice|pasta|soup|fish|pancakes|meat|a meal|breakfast",
    "eating": "an apple|a sandwich|pizza|a banana|ice cream|soup|breakfast|lunch|cake|fruit|bread|noodles|a hamburger",
    "drinking": "water|coffee|tea|milk|juice|beer|wine",
    "reading": "a book|a newspaper|a letter|a magazine|a map|the news|a story to a child",
    "writing": "a letter|in a notebook|on a blackboard|an email|a song|a book",
    "driving": "a car|a truck|a bus|a tractor|a train|a taxi",
    "holding": "a baby|a camera|an umbrella|a flag|a cup|a gun|a sign|flowers|a fish|a bottle|a microphone|a kitten",
    "carrying": "a bag|a box|a child|water|wood|a suitcase|a ladder|a surfboard|a backpack",
    "throwing": "a ball|a stone|a stick|a frisbee|a knife|snow",
    "kicking": "a ball|a football|the door|sand",
    "watching": "television|a movie|the sunset|the game|the birds|a parade|the children play",
    "opening": "a door|a window|a box|a bottle|a package|a can|a gift",
    "washing": "a car|the dishes|clothes|his hands|her hair|a dog|the floor|vegetables",
    "painting": "a wall|a picture|a fence|a house|her nails",
    "fixing": "a car|a bicycle|the roof|a computer|a machine|a pipe",
    "climbing": "a tree|a mountain|a rope|a wall|a ladder|the stairs|a rock",
    "pushing": "a cart|a stroller|a car|a wheelchair|a button",
    "pouring": "water into a glass|milk into a bowl|oil into a pan|coffee|sauce on the food",
    "mixing": "ingredients in a bowl|flour and eggs|a salad|paint",
    "talking": "on the phone|to a woman|to a crowd|to the camera|with friends|about the weather",
    "taking": "a picture|a photo|a shower|a walk|an exam|notes|a nap",
    "wearing": "a hat|a costume|glasses|a mask|a helmet|a uniform",
    "selling": "fruit|flowers|newspapers|vegetables|tickets",
    "lifting": "weights|a heavy box|a child|a car",
    "feeding": "the birds|a dog|a baby|the ducks|a horse|a calf",
    "jumping": "over a fence|into the water|off a cliff|on a trampoline|rope|up and down",
    "petting": "a dog|a cat|a horse|a tiger",
    "building": "a house|a wall|a sand castle|a fire|a boat|a snowman",
    "firing": "a gun|a rifle|a machine gun|a cannon",
    "applying": "makeup|lipstick|cream to her face",
    "folding": "paper|clothes|a towel|a blanket",
    "planting": "a tree|flowers|seeds|vegetables",
}  # fmt: skip
_THINGS = """phone car house computer book movie song dog cat job school teacher boss room hotel restaurant food coffee
bread cake dress coat bag bicycle camera television laptop printer train bus plane ticket garden kitchen bed chair table
window door game team city country river mountain weather story picture letter password account file screen battery
email website picture frame bathroom heater roof wall lamp bottle knife shoes watch ring""".split()
_QUALITIES = """good|bad|great|terrible|new|old|cheap|expensive|fast|slow|big|small|beautiful|ugly|broken|clean|dirty|loud|
quiet|warm|cold|easy to use|hard to use|too expensive|very good|not good|not bad|nice|interesting|boring|safe|dangerous|
useful|useless|heavy|light|strong|weak|full|empty|comfortable|uncomfortable|ready|late|lost|amazing|awful"""
_VERBS = """buy sell clean fix find use open close move paint build carry wash change choose break lose keep return
replace store protect remove install start stop repair draw describe learn teach cook bake grow train feed measure""".split()
_TOPICS = """weather|traffic|work|school|health|money|music|football|politics|history|science|cooking|travel|the war|the
election|global warming|climate change|hurricanes|earthquakes|floods|storms|the economy|taxes|unemployment|education|
religion|love|marriage|children|food|exercise|sleep|diet|cancer|the flu|snow|rain|drought|fires|pollution|energy|oil|
electric cars|computers|the internet|space|the moon|the sun|animals|birds|whales|trees|forests|oceans|rivers|art|books|
movies|television|fashion|shopping|holidays|families|friendship|sports|baseball|tennis|chess|mathematics|physics|
chemistry|biology|medicine|dentists|hospitals|doctors"""
_COUNTRIES = """China India Russia France Germany Britain Israel Iran Iraq Syria Egypt Turkey Japan Pakistan Afghanistan
Ukraine Mexico Brazil Canada Australia Spain Italy Greece Libya Yemen Sudan Nigeria Kenya Somalia Thailand Indonesia
Vietnam Korea Cuba Venezuela Argentina Chile Colombia Poland Sweden Norway Ireland Scotland Texas California Florida
Chicago London Paris Moscow Beijing Baghdad Kabul Damascus Cairo Tokyo Delhi Mumbai Karachi Boston Sydney Gaza
Jerusalem Kiev Rome Madrid Athens Berlin Tehran Tripoli Nairobi""".split()
_LEADERS = """president|prime minister|government|foreign minister|court|parliament|police|army|opposition|rebels|
officials|protesters|lawmakers|judge|central bank|company|union|troops|militants|voters"""
_NEWS = [
    "{leader} of {c} meets {leader2} of {c2}",
    "{c} {leader} says no to talks with {c2}",
    "{n} killed in {c} {disaster}",
    "at least {n} dead after {disaster} in {c}",
    "{disaster} hits {c}, {n} injured",
    "{disaster} strikes northern {c}",
    "{disaster} kills {n} people in {c}",
    "bomb blast kills {n} in {c}",
    "suicide bomber kills {n} in {c}",
    "{c} {leader} resigns over {scandal}",
    "{c} {leader} wins election",
    "{c} {leader} arrested over {scandal}",
    "{c} votes for new {leader}",
    "stocks {move} as oil prices {move2}",
    "{c} shares {move} on economic news",
    "oil prices {move} after {c} announcement",
    "the index {moved} {n} points, or {n2} percent",
    "shares of the company {moved} {n2} percent",
    "profits {moved} in the {quarter} quarter",
    "{c} to send troops to {c2}",
    "{c} denies {scandal}",
    "{c} rejects {c2} peace plan",
    "{c} and {c2} sign trade deal",
    "{c} beats {c2} in the final",
    "thousands protest in {c} against {leader}",
    "{c} police arrest {n} suspects",
    "{c} court sentences man to {n} years in prison",
    "man charged with {scandal} in {c}",
    "woman found dead in {c}",
    "plane crash in {c} leaves {n} dead",
    "former {leader} dies at the age of {n}",
    "{c} launches new satellite",
    "{c} tests missile, {c2} warns of sanctions",
    "the {leader} said {c} would not {act}",
    "the {leader} said on Monday that {c} will {act}",
    "{c} {leader} vows to {act}",
    "{c} urges {c2} to {act}",
]
_SLOTS = {
    "disaster": """earthquake|flood|storm|hurricane|tornado|fire|explosion|car bomb|train crash|bus crash|landslide|attack|
shooting|air strike|heat wave|blizzard|ferry accident|mine accident|building collapse|clashes""",
    "scandal": "corruption|murder|fraud|spying|tax evasion|war crimes|drug smuggling|rape|bribery|theft|hacking|torture",
    "move": "rise|fall|drop|climb|jump|slip|gain|tumble|surge",
    "moved": "rose|fell|dropped|climbed|jumped|slipped|gained|lost|declined",
    "quarter": "first|second|third|fourth",
    "act": """stop the fighting|join the talks|withdraw its troops|release the prisoners|cut taxes|raise interest rates|
close the border|accept the deal|hold elections|ban smoking|free the hostages|help the victims|end the strike|sign the
treaty|build new reactors""",
}  # fmt: skip
_REMARKS = [
    "Your {t} looks {q}.", "This {t} is {q}.",
    "The {t} is {q}.", "The {t} was {q}.", "Is your {t} {q}?", "Is the {t} {q}?", "I think the {t} is {q}.",
    "I need a new {t}.", "I want to buy a {t}.", "Where is my {t}?", "Where can I buy a {t}?", "I lost my {t}.",
    "How do I {v} a {t}?", "How can I {v} my {t}?", "What is the best way to {v} a {t}?", "You should {v} the {t}.",
    "You can {v} your {t} yourself.", "You don't have to {v} the {t}.", "Why did you {v} the {t}?",
    "Can I {v} the {t}?", "It is easy to {v} a {t}.", "It is {q}.", "I bought a {t} yesterday.",
    "She has a {q} {t}.", "There is a {t} in the {t2}.", "The {t} is next to the {t2}.", "Do you have a {t}?",
    "What is {o}?", "Tell me about {o}.", "I am interested in {o}.", "What do you think about {o}?",
    "I read an article about {o}.", "{o} is a serious problem.", "{o} is getting worse.", "We talked about {o}.",
    "People worry about {o}.", "Do you know anything about {o}?", "Recently there was much news of {o}.",
    "How old is your {t}?", "What is your name?", "Who are you?",
    "How are you today?", "How is the {t}?", "What time is it?", "When does the {t} arrive?", "How much is the {t}?",
    "Will it snow tomorrow?", "It will {w} tomorrow.", "It is going to {w} tonight.", "Did it {w} yesterday?",
    "An apple a day keeps the doctors away.", "Eating {f} is healthy.", "Is it healthy to eat {f}?",
    "It depends on the {t}.", "It depends on what you want to do with the {t}.", "That is not a good idea.",
    "There is no reason to {v} it.", "The answer is yes.", "The answer is no, you should not {v} the {t}.",
]  # fmt: skip
_FOOD = "apples|strawberries|vegetables|fish|meat|bread|chocolate|eggs|rice|fruit|sugar|butter|cheese|salt"
_WEATHER = "rain|snow|be sunny|be cold|be hot|storm|be windy|freeze"


def plain_sentences(
    count: int, *, seed: int = 42, refused: Callable[[str], object] = lambda text: None
) -> Iterator[str]:
    """`count` different sentences, the same for the same seed: half pictures, a quarter remarks, a quarter headlines.

    Those that `refused` gives a true value for are left out.
    """
    generator = random.Random(seed)
    seen: set[str] = set()
    makers: list[Callable[[random.Random], str]] = [_picture, _remark, _picture, _headline]
    while count:
        text = " ".join(makers[len(seen) % len(makers)](generator).split())
        if text in seen:
            continue
        seen.add(text)
        if not refused(text):
            count -= 1
            yield text


def _picture(generator: random.Random) -> str:
    pick = generator.choice
    if generator.random() < 0.3:
        animal = pick(_ANIMALS)
        colour = pick(_COLOURS) + " " if generator.random() < 0.5 else ""
        doing = pick([part for chunk in _BEASTLY.split("|") for part in _deeds(chunk)])
        return _ended(generator, f"{_article(generator, colour + animal)} is {doing}")
    subject = pick(_PEOPLE)
    if generator.random() < 0.4:
        subject = f"{pick(_ADJECTIVES)} {subject}"
    whole = _article(generator, subject)
    if generator.random() < 0.15:
        whole, be = f"{pick(['two', 'three', 'several', 'some', 'many'])} {_plural(subject)}", "are"
    else:
        be = "is"
    if generator.random() < 0.2:
        whole += f" in a {pick(_COLOURS)} {pick(_CLOTHES)}"
    if generator.random() < 0.2:
        doing = pick(_ALONE)
    else:
        verb = pick(list(_DEEDS))
        doing = f"{verb} {pick(_DEEDS[verb].split('|'))}"
    negation = "not " if generator.random() < 0.04 else ""
    return _ended(generator, f"{whole} {be} {negation}{doing}")


def _deeds(chunk: str) -> list[str]:
    """Single words of a list of verbs, or a whole phrase."""
    words = chunk.split()
    return words if words[0].endswith("ing") and all(word.endswith("ing") for word in words) else [" ".join(words)]


def _ended(generator: random.Random, text: str) -> str:
    if generator.random() < 0.35:
        text += " " + generator.choice(_PLACES).strip()
    return text[0].upper() + text[1:] + ("." if generator.random() < 0.8 else "")


def _article(generator: random.Random, noun: str) -> str:
    if generator.random() < 0.2:
        return f"the {noun}"
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _plural(noun: str) -> str:
    irregular = {"man": "men", "woman": "women", "child": "children", "person": "people", "policeman": "policemen"}
    head, _, last = noun.rpartition(" ")
    if last in irregular:
        last = irregular[last]
    elif last.endswith("y") and last[-2] not in "aeiou":
        last = last[:-1] + "ies"
    else:
        last += "s"
    return f"{head} {last}".strip()


def _remark(generator: random.Random) -> str:
    pick = generator.choice
    text = pick(_REMARKS).format(
        t=pick(_THINGS),
        t2=pick(_THINGS),
        q=_phrase(pick, _QUALITIES),
        v=pick(_VERBS),
        o=_phrase(pick, _TOPICS),
        f=_phrase(pick, _FOOD),
        w=_phrase(pick, _WEATHER),
    )
    return text[0].upper() + text[1:]


def _headline(generator: random.Random) -> str:
    pick = generator.choice
    slots = {name: _phrase(pick, words) for name, words in _SLOTS.items()}
    text = pick(_NEWS).format(
        c=pick(_COUNTRIES),
        c2=pick(_COUNTRIES),
        leader=_phrase(pick, _LEADERS),
        leader2=_phrase(pick, _LEADERS),
        n=generator.randint(2, 90),
        n2=f"{generator.randint(0, 9)}.{generator.randint(0, 9)}",
        move2=_phrase(pick, _SLOTS["move"]),
        **slots,
    )
    return text[0].upper() + text[1:] + ("" if generator.random() < 0.6 else ".")


def _phrase(pick: Callable[[list[str]], str], phrases: str) -> str:
    return " ".join(pick(phrases.split("|")).split())
