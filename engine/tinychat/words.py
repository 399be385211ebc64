"""Word lists of the generators: names, places, short facts, and the many things to decline.

Everything here is common knowledge or invented; no list was taken from elsewhere.
"""

from __future__ import annotations

import random
import re


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _lines(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    halves = [pair.partition(":") for pair in _lines(text)]
    return tuple((first, second) for first, _, second in halves)


NAMES = _words(
    "Anna Ben Carla David Emma Felix Greta Hugo Ida Jonas Karl Lena Maria Nils Olga Paul Rosa Sam "
    "Tina Uwe Vera Walter Xenia Yusuf Zoe Amir Bella Chen Dora Elias Fatima Georg Hanna Ivan Julia "
    "Kofi Laura Mehmet Nora Omar Priya Quinn Ravi Sofia Tom Ursula Victor Wanda Yara Alice Bob "
    "Lucas Mia Noah Clara Peter Sara Leo Marta Simon"
)
CITIES = _words(
    "Oslo Paris Rome Berlin Madrid Vienna Prague Dublin London Athens Lisbon Warsaw Helsinki "
    "Hamburg Milan Boston Chicago Toronto Sydney Mumbai Osaka Lima Nairobi Cairo Geneva Basel "
    "Porto Lyon Bergen Ghent Kyoto Seattle Denver Munich Leeds Turin"
)
JOBS = _words(
    "baker teacher nurse farmer painter driver lawyer doctor singer writer cook pilot gardener "
    "carpenter dentist plumber librarian engineer tailor judge"
)
COLOURS = _words("red blue green yellow black white orange purple brown pink grey")
ANIMALS = _words(
    "cat dog horse bird fish rabbit cow sheep pig goat mouse duck frog bear wolf fox lion tiger"
)
THINGS = _words(
    "lamp table chair bicycle book bag watch phone clock bottle jacket hat camera guitar piano "
    "carpet mirror umbrella kettle knife sofa desk radio ladder"
)
DAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = _words(
    "January February March April May June July August September October November December"
)
PLAIN = _words(
    "apple river stone house window garden paper music winter summer morning evening bread water "
    "fire light door road forest mountain ocean island bridge letter word number sugar salt milk "
    "honey grass leaf tree flower cloud rain snow wind star moon sun earth silver gold "
    "copper glass "
    "wood silk cotton wool yellow happy quiet small large quick slow warm cold sweet bitter round "
    "square open closed early late always never often again together alone inside outside under "
    "over before after the a and is very my your this that one two three we you they it here there "
    "hello world good night blue red green black white boat train plane wheel key lock ring coin"
)
SPELLED = _words(
    "cat dog sun moon tree fish bird book door lamp milk salt ring star wolf bear lion frog cake "
    "rain snow wind fire gold hand foot head nose blue pink grey rose leaf seed corn rice soup "
    "table chair house river stone bread apple lemon grape horse sheep mouse tiger zebra train "
    "plane wheel clock music paper voice green black white brown happy quiet small large quick"
)
CAPITALS: tuple[tuple[str, str], ...] = _pairs(
    """
    France:Paris, Germany:Berlin, Italy:Rome, Spain:Madrid, Portugal:Lisbon, Austria:Vienna,
    Greece:Athens, Ireland:Dublin, Norway:Oslo, Sweden:Stockholm, Finland:Helsinki,
    Denmark:Copenhagen, Iceland:Reykjavik, Poland:Warsaw, Hungary:Budapest, Belgium:Brussels,
    Switzerland:Bern, Romania:Bucharest, Bulgaria:Sofia, Croatia:Zagreb, Serbia:Belgrade,
    Ukraine:Kyiv, Turkey:Ankara, Egypt:Cairo, Kenya:Nairobi, Morocco:Rabat, Japan:Tokyo,
    China:Beijing, India:New Delhi, Thailand:Bangkok, Vietnam:Hanoi, South Korea:Seoul,
    Indonesia:Jakarta, Australia:Canberra, New Zealand:Wellington, Canada:Ottawa,
    Mexico:Mexico City, Cuba:Havana, Brazil:Brasilia, Argentina:Buenos Aires, Chile:Santiago,
    Peru:Lima, Colombia:Bogota, Estonia:Tallinn, Latvia:Riga, Lithuania:Vilnius,
    the United States:Washington, the United Kingdom:London, the Netherlands:Amsterdam,
    Russia:Moscow, Iran:Tehran, Iraq:Baghdad, Israel:Jerusalem, Ghana:Accra, Nigeria:Abuja,
    Tunisia:Tunis, Czechia:Prague, Slovakia:Bratislava, Slovenia:Ljubljana, Nepal:Kathmandu
    """
)
# The patterns of a question, of which the last is held out; then, indented, its answer.
_SHORT_FACTS = """
how many days [are in|has|are there in] a week / days in a week / how long is a week in days
    A week has 7 days.
how many months [are in|has|are there in] a year / months in a year / how long is a year in months
    A year has 12 months.
how many hours [are in|has|are there in] a day / hours in a day / how long is a day in hours
    A day has 24 hours.
how many minutes [are in|has|are there in] an hour / minutes in an hour /
how long is an hour in minutes
    An hour has 60 minutes.
how many seconds [are in|has|are there in] a minute / seconds in a minute /
how long is a minute in seconds
    A minute has 60 seconds.
how many days [are in|has|are there in] a year / days in a year / how long is a year in days
    A year has 365 days, a leap year 366.
how many legs [has|does] a spider[| have] / legs of a spider / a spider has how many legs
    A spider has 8 legs.
how many legs [has|does] an insect[| have] / legs of an insect / an insect has how many legs
    An insect has 6 legs.
how many letters [are in|has] the alphabet / letters in the alphabet /
what number of letters has the alphabet
    The English alphabet has 26 letters.
how many continents are there / number of continents / what number of continents is there
    There are 7 continents.
how many planets are there[| in the solar system] / number of planets /
what number of planets goes round the sun
    The solar system has 8 planets.
what colour is the sky / [colour|color] of the sky / which colour has the sky
    On a clear day the sky is blue.
what colour is grass / [colour|color] of grass / which colour has grass
    Grass is green.
what colour is snow / [colour|color] of snow / which colour has snow
    Snow is white.
what is the largest planet / [which|what] planet is the [largest|biggest] /
name the planet that is largest
    Jupiter is the largest planet.
what is the largest ocean / [which|what] ocean is the [largest|biggest] /
name the ocean that is largest
    The Pacific is the largest ocean.
what is the highest mountain / [which|what] mountain is the [highest|tallest] /
name the mountain that is highest
    Mount Everest is the highest mountain.
at what temperature does water boil / when does water boil / what is the boiling point of water
    Water boils at 100 degrees Celsius.
at what temperature does water freeze / when does water freeze / what is the freezing point of water
    Water freezes at 0 degrees Celsius.
what is the chemical formula of water / formula of water / which formula has water
    The formula of water is H2O.
what is the symbol of gold / chemical symbol of gold / which symbol has gold
    The symbol of gold is Au.
what is the symbol of iron / chemical symbol of iron / which symbol has iron
    The symbol of iron is Fe.
what do bees make / what does a bee make / which food comes from bees
    Bees make honey.
what does the earth go round / what does the earth orbit / around which star does the earth go
    The earth goes round the sun.
what is the opposite of [hot|warm] / opposite of hot / which word is the opposite of hot
    The opposite of hot is cold.
what is the opposite of big / opposite of big / which word is the opposite of big
    The opposite of big is small.
what is the opposite of up / opposite of up / which word is the opposite of up
    The opposite of up is down.
what is the opposite of day / opposite of day / which word is the opposite of day
    The opposite of day is night.
what is the opposite of open / opposite of open / which word is the opposite of open
    The opposite of open is closed.
what sound does a dog make / what does a dog say / which sound comes from a dog
    A dog barks.
what sound does a cat make / what does a cat say / which sound comes from a cat
    A cat meows.
how many sides [has|does] a triangle[| have] / sides of a triangle / a triangle has how many sides
    A triangle has 3 sides.
how many sides [has|does] a square[| have] / sides of a square / a square has how many sides
    A square has 4 sides.
what are the primary colours / [list|name] the primary colours / which colours are primary
    Red, yellow and blue.
[list|name|what are] the seasons / what are the four seasons / which seasons does a year have
    Spring, summer, autumn and winter.
[list|name|what are] the days of the week / the days of the week / which days does a week have
    Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and Sunday.
is the earth [flat|round] / what shape is the earth / which shape has the earth
    The earth is round.
what language [is spoken|do they speak] in brazil / language of brazil / which language has brazil
    In Brazil people speak Portuguese.
how many cents [are in|has] a [dollar|euro] / cents in a euro / a euro has how many cents
    100 cents.
what is a dozen / how many is a dozen / which number is a dozen
    A dozen is 12.
"""


def _short_facts() -> tuple[tuple[tuple[str, ...], str], ...]:
    blocks = re.findall(r"((?:^\S.*\n)+)    (.+)\n", _SHORT_FACTS, flags=re.MULTILINE)
    return tuple((tuple(" ".join(asked.split()).split(" / ")), answer) for asked, answer in blocks)


SHORT_FACTS = _short_facts()

TOPICS = _lines(
    "football, tennis, the stock market, politics, the election, the president, the weather, the "
    "news, climate change, cooking, gardening, car engines, bitcoin, real estate, taxes, tax law, "
    "divorce law, contract law, medicine, headaches, back pain, diabetes, vitamins, heart disease, "
    "vaccines, chess openings, poker, video games, the Roman Empire, the French Revolution, the "
    "Second World War, ancient Egypt, Napoleon, Julius Caesar, the Middle Ages, Shakespeare, "
    "Goethe, Mozart, Beethoven, jazz, opera, painting, sculpture, film history, philosophy, Kant, "
    "Plato, religion, psychology, dreams, astrology, astronomy, black holes, string "
    "theory, quantum "
    "mechanics, relativity, chemistry, biology, evolution, genetics, dinosaurs, volcanoes, "
    "earthquakes, whales, penguins, roses, mushrooms, wine, beer, coffee, cheese, "
    "chocolate, pasta, "
    "sushi, pizza, fashion, shoes, travel, hotels, airlines, trains, electric cars, rockets, the "
    "moon landing, robots, smartphones, Linux, Windows, Excel, JavaScript, compilers, databases in "
    "general, graph theory, calculus, algebra, statistics, economics, inflation, unemployment, "
    "marketing, job interviews, school, universities, exams, poetry, novels, journalism, "
    "photography, sailing, swimming, skiing, running, yoga, weight loss, sleep, dogs, cats, horses"
)
HELD_OUT_TOPICS = _lines(
    "basketball, insurance, the Vikings, Picasso, superconductors, butterflies, bread baking, "
    "motorcycles, topology, advertising, ballet, mountain climbing, knitting, asthma, pensions"
)
EVENTS = _lines(
    "the world cup, the last election, the match yesterday, the super bowl, the olympic games, the "
    "lottery, the song contest, the tour de france, the final, the civil war, the nobel prize, the "
    "chess championship"
)
PARTS = _words(
    "relay worker proxy client issuer capsule keeper front launcher engine log witness token "
    "receipt quote gateway checkpoint quorum accelerator"
)
PRODUCTS = _words(
    "Photoshop Netflix Spotify WhatsApp TikTok Instagram Facebook YouTube Dropbox Slack Zoom Gmail "
    "Alexa iPhone Android PlayStation Tesla Salesforce Outlook Firefox Kubernetes Oracle Minecraft"
)
TASKS = _lines(
    "sorts a list, reads a file, draws a circle, downloads a page, plays chess, parses html, sends "
    "an email, finds prime numbers, opens a window, trains a network, connects to a database"
)
ACTIVITIES = _lines(
    "fix my car, lose weight, bake a cake, get rich, find a job, repair a bicycle, learn the "
    "guitar, cook rice, write a novel, train a dog, paint a wall, buy a house, file my taxes, meet "
    "people, fall asleep, plant a tree, make coffee, sell my car, quit smoking, win at "
    "poker, cure a "
    "cold, hack a computer, build a boat, tie a tie, stop worrying, invest my money"
)
STYLES = _words("poem story essay song letter haiku speech novel report review script blog email")
TONGUES = _words("French German Spanish Italian Latin Greek Chinese Japanese Russian Arabic Dutch")
PHRASES = _lines(
    "good morning, I love you, where is the station, thank you very much, the house is "
    "red, my name "
    "is Tom, how much is this, see you tomorrow"
)
DISHES = _words("pancakes lasagne soup goulash curry risotto bread cookies omelette paella salad")
BLURTS = _lines(
    "asdf, blah blah, hmm, ..., ???, qwertz, lorem ipsum, xyz, foo bar, aaa, 12345, !!, "
    "uh, ok then, "
    "whatever, la la la, test test, zzz, bla, hjkl"
)
_SYLLABLES = _words(
    "ba be bo da do fa fi ga go ka ke ki la le lo ma mi mo na ne no pa po ra re ri ro sa "
    "se so ta te "
    "ti to va vi wa zo zu tra bri flo gru kla ple ster lin mar ton der nik qua xen"
)


def invented(rng: random.Random) -> str:
    """Return a word that means nothing, so that unknown words are met in training."""
    return "".join(rng.choice(_SYLLABLES) for _ in range(rng.randint(2, 3)))
