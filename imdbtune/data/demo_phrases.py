"""Words and sentences of the demo reviews.

In a sentence ``{slot}`` stands for a word of the slot's list, ``{same...}`` for a word of the
label's polarity and ``{other...}`` for one of the opposite polarity, so every sentence works for
both labels. Negation, contrast and the speaker decide which label a sentence means, not the words
in it.
"""

from __future__ import annotations

Words = tuple[str, ...]


def _words(text: str) -> Words:
    return tuple(text.split("|") if "|" in text else text.split())


def _names(first: str, last: str, form: str = "{} {}") -> Words:
    return tuple(form.format(a, b) for a in first.split() for b in last.split())


_BAD = {
    "": _words(
        "dull awful terrible dreadful poor bad weak clumsy lifeless tedious tired bland lazy flat "
        "horrible mediocre feeble sloppy ugly stale"
    ),
    "_thing": _words("bore mess disaster failure disappointment mistake shambles nuisance"),
    "_verb": _words(
        "hated it|regretted every minute of it|was bored to tears|yawned out loud|"
        "was annoyed from start to finish|was disappointed|loathed it|was irritated"
    ),
}
_GOOD = {
    "": _words(
        "wonderful brilliant excellent superb splendid beautiful charming fascinating delightful "
        "terrific clever fresh lovely great good inspired marvelous fine impressive elegant"
    ),
    "_thing": _words("masterpiece triumph delight gem treasure joy pleasure success"),
    "_verb": _words(
        "loved it|enjoyed every minute of it|was moved to tears|laughed out loud|"
        "was charmed from start to finish|was delighted|adored it|was enchanted"
    ),
}
POLAR = (_BAD, _GOOD)
"""Words of opinion by label: adjectives, nouns and verb phrases."""

WORDS = {
    "film": _words("film movie picture"),
    "part": _words(
        "acting|script|dialogue|score|photography|editing|story|ending|camera work|pacing|music|"
        "humor|casting|direction|opening scene|last act|sound design|set design|main plot"
    ),
    "they": _words(
        "the critics|most critics|the papers|my neighbors|my friends|people at work|"
        "the reviewers|several viewers|my students|the other guests"
    ),
    "friend": _words("brother sister father mother cousin roommate neighbor boss dentist teacher"),
}
"""Drawn anew wherever the slot stands."""

_SURNAMES = (
    "Adler Barlow Costa Dunne Ellis Farrow Garnett Holt Ibsen Keller Lindgren Moreau Novak Okafor "
    "Pratt Quinn Rossi Stern Tanaka Vance Whitlock Zeller"
)
_MEN = "Adam Bruno Dennis Felix Gregory Hugo Jonas Marcus Otto Peter Simon Stefan"
_WOMEN = "Anna Celia Elsa Gloria Ida Joan Lena Margaret Nina Rosa Sylvia Yvonne"

SETTING = {
    "actor": _names(_MEN, _SURNAMES),
    "actress": _names(_WOMEN, _SURNAMES),
    "director": _names(_MEN + " " + _WOMEN, _SURNAMES),
    "genre": _words("western comedy thriller mystery musical drama romance"),
    "year": _words(
        "1938 1947 1951 1956 1962 1968 1973 1979 1984 1988 1991 1994 1996 1999 2001 2003"
    ),
    "hero": _words(
        "Arthur Ben Carl Daniel Edgar Frank George Henry Jack Leo Martin Nathan Oscar Paul Robert "
        "Samuel Thomas Victor Walter William"
    ),
    "heroine": _words(
        "Alice Bella Clara Diana Emma Flora Grace Helen Irene Julia Kate Laura Maria Nora Olivia "
        "Paula Ruth Sarah Tess Vera"
    ),
    "job": _words(
        "baker farmer sailor doctor clerk soldier painter waiter pilot miner tailor librarian "
        "reporter banker fisherman mechanic gardener barber pianist"
    ),
    "her_job": _words(
        "nurse lawyer dancer singer photographer widow translator journalist seamstress chemist "
        "violinist secretary waitress detective"
    ),
    "town": _words(
        "Boston Chicago Paris London Vienna Dublin Lisbon Naples Havana Toronto Denver Dallas "
        "Memphis Seattle Prague Berlin Sydney Geneva Oslo Cairo"
    ),
    "city": _words(
        "Brussels Madrid Milan Rome Athens Hamburg Zurich Montreal Detroit Houston Phoenix Atlanta "
        "Portland Bombay Tokyo Moscow Warsaw Budapest"
    ),
    "place": _words(
        "lighthouse hotel farmhouse station circus mill hospital school castle monastery "
        "warehouse vineyard shipyard bakery museum theater library"
    ),
    "relative": _words("uncle aunt grandfather stepbrother godmother nephew grandmother"),
    "object": _words(
        "letter map suitcase photograph diary key ring violin telegram notebook watch coin"
    ),
    "season": _words("winter summer autumn spring"),
    "animal": _words("dog horse cat parrot donkey goat"),
    "villain": _words("mayor sheriff landlord colonel senator smuggler baron"),
    "event": _words("storm flood fire strike wedding election funeral carnival blackout"),
    "number": _words("two three four five six seven ten twelve twenty"),
}
"""Drawn once for each review: whom and what the film is about."""

TITLES = _names(
    "Silent Last Hidden Northern Crooked Golden Second Distant Paper Broken Midnight Blue Seventh "
    "Scarlet Wooden Little Borrowed Stolen Iron Salt Glass Forgotten Crimson Quiet",
    "Harbor Orchard Bridge Witness Garden Letter River Train Island Lantern Season Neighbor Road "
    "Tower Market Piano Stranger Window Valley Mirror Crossing Passenger House",
    "The {} {}",
)

DIRECT = (
    "The {part} is {same}.",
    "This is a {same} {film}.",
    "I {same_verb}.",
    "What a {same_thing}!",
    "{actor} is {same} as {hero}.",
    "{actress} is {same} as {heroine}.",
    "The {film} is a {same_thing}.",
    "I thought the {part} was {same}.",
    "It is a {same_thing}, and the {part} is {same} too.",
)
NEGATED = (
    "The {part} is not {other}.",
    "The {part} is never {other}.",
    "The {part} isn't {other}.",
    "This is not a {other} {film}.",
    "It's hardly a {other_thing}.",
    "It is hardly the {other_thing} that {they} talk about.",
    "It is no {other_thing}.",
    "The {part} is anything but {other}.",
    "{actress} is never {other} as {heroine}.",
    "The {film} is far from {other}.",
    "Nobody could call the {part} {other}.",
    "I cannot say that I {other_verb}.",
    "There is nothing {other} about the {part}.",
    "I never thought that the {part} was {other}.",
    "According to {they} it is {other}. They are wrong.",
    "I do not agree with {they}, who say it is a {other_thing}.",
)
CONTRASTED = (
    "The {part} is {other}, but the {film} as a whole is {same}.",
    "{actor} is {other}, but {actress} is {same}, and it is her {film}.",
    "Although {other} at first, it turned out {same} in the end.",
    "Although the {part} is {other}, the {film} is {same}.",
    "Despite its {other} {part}, it is a {same} {film}.",
    "It is a {same} {film}, even though the {part} is {other}.",
    "It's not {other} but {same}.",
    "{they} called it a {other_thing}. I {same_verb}.",
    "My {friend} {other_verb}. I {same_verb}.",
    "{they} said it was {other}. It is {same}.",
    "Unlike {other_title}, which was {other}, this one is {same}.",
    "It could have been a {other_thing}; it is a {same_thing}.",
    "I expected a {other} {film} and got a {same} one.",
)
"""Opinions: the writer's own, of the label's polarity."""

VERDICT = (
    "In short: I {same_verb}.",
    "Let me say it at once: this is a {same} {film}.",
    "{title} in one word: {same}.",
    "I saw {title} last night and I {same_verb}.",
    "Make no mistake: {title} is a {same_thing}.",
    "Whatever {they} say, {title} is not a {other} {film}.",
    "{title} is no {other_thing}.",
    "{they} called {title} a {other_thing}. I {same_verb}.",
)
"""The opinion of the whole film that a review opens with."""

CAVEAT = (
    "I admit that the {part} is {other}.",
    "True, the {part} is {other}, but that changes nothing.",
    "Only the {part} is {other}.",
    "My {friend} disagrees and says that the {part} is {other}.",
)
"""What does not change a verdict that was given before."""

FOIL = (
    "The {part} is {other}.",
    "The {part} is {other}.",
    "The {part} isn't {same}.",
    "I have to say that the {part} is {other}.",
    "For half an hour I thought that I had found a {other_thing}.",
    "At first I thought that this was a {other_thing}.",
    "The {part} is {other} and so is the {part}.",
)
"""What a later turn outweighs."""

TURN = (
    "And yet I {same_verb}.",
    "But none of that matters: the {film} is a {same_thing}.",
    "Still, it is a {same} {film}.",
    "In the end, however, I {same_verb}.",
    "All the same, this is a {same} {film}.",
    "And yet it is not a {other} {film}.",
    "Still, I cannot say that I {other_verb}.",
)
"""The verdict that goes against what stands before it."""

OPENING = (
    "{title} is a {genre} from {year} by {director}.",
    "{title}, directed by {director}, tells the story of a {job} in {town}.",
    "I saw {title} at a small theater in {town} {number} years ago.",
    "{director} made {title} in {year}, {number} years after {other_title}.",
    "In this {genre} {actor} plays {hero}, a {job} from {town}.",
    "Last week they showed {title} on television, a {genre} with {actor} and {actress}.",
    "We rented {title} because {actress} is in it.",
    "{title} was shot in {town} in the {season} of {year}.",
)

STORY = (
    "{hero}, played by {actor}, is a {job} who lives above a {place} with his {animal}.",
    "{hero} has not left {town} for {number} years.",
    "Every morning {hero} walks to the {place} and buys a paper.",
    "{hero}'s {relative} wants him to sell the house and move to {city}.",
    "One night in {season} a stranger leaves a {object} at the door of the {place}.",
    "The {object} belongs to {heroine}, a {her_job} who came to town after the {event}.",
    "{actress} plays {heroine}, the {her_job} from across the street.",
    "{heroine} has {number} brothers and a {animal} that follows her everywhere.",
    "{heroine} works at the {place} and writes to her {relative} on Sundays.",
    "{hero} and {heroine} meet on a bus to {city}.",
    "{heroine} and {hero} talk about the {event}, about the sea and about the price of bread.",
    "Meanwhile the {villain} wants to buy the {place} and tear it down.",
    "Nobody in town knows where the {villain} got his money.",
    "{hero} owes the {villain} {number} months of rent.",
    "There is a long scene at the station in which {hero} waits for the train.",
    "Then comes the {event}, and the whole town gathers at the {place}.",
    "During the {event} the {object} disappears.",
    "{hero} suspects his {relative}, who left for {city} the same evening.",
    "{heroine} finds a second {object} under the floor of the {place}.",
    "The {object} carries the name of a soldier and a date in {season}.",
    "The police ask {heroine} about the night of the {event}.",
    "{heroine} tells them that she was in {city} with her {relative}.",
    "{hero} follows the {villain} to a barn outside {town}.",
    "{hero} sees {number} men loading boxes on a truck.",
    "The {animal} barks, and somebody turns on the light.",
    "{hero} runs across the fields and hides in a cellar until morning.",
    "{hero}'s {relative} hides the {object} in the kitchen, behind the clock.",
    "{heroine} takes the night train to {city} to speak with a judge.",
    "On the train {heroine} meets the wife of the {villain}, who knows about the {object}.",
    "{heroine} and the wife of the {villain} share a table and a pot of coffee.",
    "Back in town the {villain} closes the {place} and sends the workers home.",
    "{hero} speaks to the workers from the steps of the {place}.",
    "{hero}'s {relative} returns with the {object} and {number} letters from {city}.",
    "The letters explain what happened on the night of the {event}.",
    "In the trial {heroine} reads the letters aloud.",
    "The {villain} leaves town in a borrowed car.",
    "{hero} opens the {place} again with the money from the {object}.",
    "In the last scene {heroine} and the {job} stand by the river with the {animal}.",
    "The snow falls on {town}, and the camera pulls back over the roofs.",
    "The credits run over a photograph of the {place} from {year}.",
)
"""The plot, in the order of the story: any selection in this order reads as a summary."""
