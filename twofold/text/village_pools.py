# ruff: noqa: E501 -- a pool is a table
"""What the village is made of: names, and the values that each attribute can take, in both languages.

Names of people, towns, streets and pets are the same in every language; everything else is translated.
No value is the name of a person, and values avoid words that the stories need for other things, so
that any value met in a text can be traced to the villager it belongs to.
"""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FEMALE = _words("""
    Ada Agnes Alice Amelia Anna Audrey Beatrice Bella Betty Bridget Carol Celia Charlotte Clara Cora
    Daphne Diana Dora Edith Eleanor Eliza Ella Emily Emma Esther Eva Fiona Flora Frances Gemma Gloria
    Greta Hannah Harriet Helen Ida Irene Isabel Jane Julia Karen Laura Leah Lena Lily Louise Lucy Mabel
    Maria Martha Matilda Megan Molly Nancy Nora Olive Paula Rachel Sarah Sophie
""")
MALE = _words("""
    Aaron Adam Albert Alfred Arthur Ben Brian Carl Charles Colin Daniel David Dennis Edgar Edward Edwin
    Eric Ethan Felix Fred George Gilbert Graham Hector Henry Hugo Isaac Ivan Jack Jacob James Jasper
    John Joseph Kevin Leo Leonard Lewis Louis Luke Martin Matthew Max Michael Nathan Neil Noah Oliver
    Oscar Owen Patrick Paul Peter Philip Ralph Robert Samuel Simon Thomas Walter
""")
SURNAMES = _words("""
    Abbott Adams Aldridge Allen Andrews Arnold Ashton Atkins Austin Bailey Baldwin Barnes Barrett Bates
    Beckett Bennett Benson Berry Bishop Blake Bolton Bowen Bradley Briggs Bryant Burgess Burton Calder
    Cannon Carey Carroll Chandler Chapman Clayton Coleman Collard Connor Cope Crawford Curtis Dalton
    Davies Dawson Dixon Doyle Dudley Duncan Eaton Edwards Elliott Emerson Evans Farrell Ferguson Fleming
    Fletcher Flynn Foster Fraser Freeman Garland Gibson Goddard Goodwin Gordon Graves Griffin Hale
    Hadley Hancock Hardy Harper Harris Hayes Higgins Hobbs Hodges Holland Howard Hudson Hughes Hunter
    Irwin Jameson Jarvis Jenkins Jennings Johnson Joyner Kimball Kelly Kendall Kenton Kirby Knox Lambert
    Larson Lawson Lowell Lyons Maddox Marsh Mercer Miller Mitchell Monroe Morgan Morris Murphy Nash
    Nelson Newell Nichols Norris Norton Osborne Palmer Parsons Payne Pearson Perkins Porter Powell
    Preston Quinn Ramsey Reeve Reynolds Richards Rowley Robinson Rowland Russell Sanders Sawyer Sharpe
    Shelton Simmons Spooner Stanton Stevens Sutton Talbot Tate Turner Vaughn Wallace Walton Watkins Wade
""")

TOWNS = _words("""
    Alderby Brookford Castleton Dunmere Eastvale Fernley Glenholm Harwick Ingleton Kingsferry Lindale
    Marston Netherby Oakhurst Pendleton Quarryhead Rosefield Stonebridge Thornby Underhill Venton
    Westmere Yarrowdale Zealham
""")
PET_NAMES = _words("""
    Bandit Biscuit Bobby Boots Bubbles Button Caesar Charlie Clover Coco Comet Cookie Domino Dusty
    Fluffy Ginger Happy Jester Jingles Lucky Marbles Merlin Misty Muffin Nibbles Patches Pepper Pickle
    Pirate Pixie Rusty Scout Shadow Sniff Socks Sparky Tiger Toffee Waffles Ziggy
""")
STREETS = (
    "Abbey Road", "Barn Lane", "Bridge Street", "Chapel Hill", "Church Lane", "Cliff Road", "Farm Road",
    "Forest Path", "Garden Row", "Harbour Street", "High Street", "Market Street", "Meadow Lane", "Mill Lane",
    "Orchard Way", "Park Avenue", "Pond Lane", "Queen Street", "River Walk", "School Lane", "Station Road",
    "Tower Road", "Valley Road", "Well Street",
)  # fmt: skip

# English, Spanish (masculine, feminine), and what such a person does, in English and in Spanish.
TRADES = (
    ("baker", "panadero", "panadera", "bakes bread", "hornea pan"),
    ("barber", "barbero", "barbera", "cuts hair", "corta el pelo"),
    ("basket maker", "cestero", "cestera", "weaves baskets", "hace cestas"),
    ("beekeeper", "apicultor", "apicultora", "looks after bees", "cuida abejas"),
    ("blacksmith", "herrero", "herrera", "works with iron", "trabaja el hierro"),
    ("butcher", "carnicero", "carnicera", "sells meat", "vende carne"),
    ("carpenter", "carpintero", "carpintera", "works with wood", "trabaja la madera"),
    ("chimney sweep", "deshollinador", "deshollinadora", "cleans chimneys", "limpia chimeneas"),
    ("clockmaker", "relojero", "relojera", "mends clocks", "arregla relojes"),
    ("doctor", "médico", "médica", "helps the sick", "cura a los enfermos"),
    ("farmer", "granjero", "granjera", "grows wheat", "cultiva trigo"),
    ("fisher", "pescador", "pescadora", "goes out with nets", "sale con las redes"),
    ("gardener", "jardinero", "jardinera", "looks after plants", "cuida las plantas"),
    ("glassmaker", "vidriero", "vidriera", "makes windows", "hace ventanas"),
    ("jeweller", "joyero", "joyera", "makes rings", "hace anillos"),
    ("librarian", "bibliotecario", "bibliotecaria", "lends books", "presta libros"),
    ("locksmith", "cerrajero", "cerrajera", "makes keys", "hace llaves"),
    ("nurse", "enfermero", "enfermera", "cares for the sick", "cuida a los enfermos"),
    ("painter", "pintor", "pintora", "paints walls", "pinta paredes"),
    ("photographer", "fotógrafo", "fotógrafa", "takes photos", "hace fotos"),
    ("plumber", "fontanero", "fontanera", "mends pipes", "arregla tuberías"),
    ("potter", "alfarero", "alfarera", "makes clay pots", "hace ollas de barro"),
    ("roofer", "techador", "techadora", "mends roofs", "arregla tejados"),
    ("shepherd", "pastor", "pastora", "looks after sheep", "cuida ovejas"),
    ("shoemaker", "zapatero", "zapatera", "makes shoes", "hace zapatos"),
    ("tailor", "sastre", "sastra", "sews clothes", "cose ropa"),
    ("teacher", "maestro", "maestra", "teaches children", "enseña a los niños"),
    ("vet", "veterinario", "veterinaria", "treats animals", "cura animales"),
    ("weaver", "tejedor", "tejedora", "weaves cloth", "teje telas"),
    ("woodcutter", "leñador", "leñadora", "cuts trees", "corta árboles"),
)
# English, Spanish, Spanish gender.
PETS = (
    ("canary", "canario", "m"), ("cat", "gato", "m"), ("dog", "perro", "m"), ("donkey", "burro", "m"),
    ("duck", "pato", "m"), ("frog", "rana", "f"), ("goat", "cabra", "f"), ("goose", "ganso", "m"),
    ("hamster", "hámster", "m"), ("hedgehog", "erizo", "m"), ("hen", "gallina", "f"), ("mouse", "ratón", "m"),
    ("owl", "búho", "m"), ("parrot", "loro", "m"), ("pony", "poni", "m"), ("rabbit", "conejo", "m"),
    ("squirrel", "ardilla", "f"), ("turtle", "tortuga", "f"),
)  # fmt: skip
COLOURS = (
    ("black", "negro"), ("blue", "azul"), ("brown", "marrón"), ("green", "verde"), ("grey", "gris"),
    ("orange", "naranja"), ("pink", "rosa"), ("purple", "morado"), ("red", "rojo"), ("turquoise", "turquesa"),
    ("white", "blanco"), ("yellow", "amarillo"),
)  # fmt: skip
# English, Spanish with its article, and the kind of dish (which recipe it follows).
FOODS = (
    ("apple pie", "la tarta de manzana", "oven"), ("barley soup", "la sopa de cebada", "pot"),
    ("bean stew", "el guiso de alubias", "pot"), ("carrot cake", "el pastel de zanahoria", "oven"),
    ("cheese pie", "la tarta de queso", "oven"), ("cherry tart", "la tarta de cerezas", "oven"),
    ("corn bread", "el pan de maíz", "oven"), ("egg salad", "la ensalada de huevo", "bowl"),
    ("fish pie", "el pastel de pescado", "oven"), ("fried trout", "la trucha frita", "pan"),
    ("garlic bread", "el pan de ajo", "oven"), ("honey cake", "el pastel de miel", "oven"),
    ("lemon cake", "el pastel de limón", "oven"), ("lentil soup", "la sopa de lentejas", "pot"),
    ("mushroom omelette", "la tortilla de setas", "pan"), ("onion soup", "la sopa de cebolla", "pot"),
    ("plum jam", "la mermelada de ciruela", "pot"), ("potato salad", "la ensalada de patata", "bowl"),
    ("pumpkin soup", "la sopa de calabaza", "pot"), ("rice pudding", "el arroz con leche", "pot"),
    ("roast chicken", "el pollo asado", "oven"), ("spinach omelette", "la tortilla de espinacas", "pan"),
    ("tomato salad", "la ensalada de tomate", "bowl"), ("walnut bread", "el pan de nueces", "oven"),
)  # fmt: skip
# English, Spanish with its article.
INSTRUMENTS = (
    ("accordion", "el acordeón"), ("bagpipe", "la gaita"), ("banjo", "el banjo"), ("cello", "el violonchelo"),
    ("clarinet", "el clarinete"), ("drum", "el tambor"), ("flute", "la flauta"), ("guitar", "la guitarra"),
    ("harmonica", "la armónica"), ("harp", "el arpa"), ("lute", "el laúd"), ("mandolin", "la mandolina"),
    ("oboe", "el oboe"), ("organ", "el órgano"), ("piano", "el piano"), ("trumpet", "la trompeta"),
    ("tuba", "la tuba"), ("violin", "el violín"),
)  # fmt: skip

# What a town is like: where it lies and what it is known for (English, Spanish).
TOWN_PLACES = (
    ("by the sea", "junto al mar"), ("by a wide river", "junto a un río ancho"), ("on a high hill", "en una colina alta"),
    ("in a deep valley", "en un valle profundo"), ("beside an old forest", "al lado de un bosque viejo"),
    ("near a quiet lake", "cerca de un lago tranquilo"), ("among wide fields", "entre campos anchos"),
    ("at the foot of the mountains", "al pie de las montañas"),
)  # fmt: skip
TOWN_FAME = (
    ("its big market", "su gran mercado"), ("its stone bridge", "su puente de piedra"), ("its old castle", "su castillo viejo"),
    ("its tall tower", "su torre alta"), ("its summer fair", "su feria de verano"), ("its good school", "su buena escuela"),
    ("its apple trees", "sus manzanos"), ("its loud bells", "sus campanas sonoras"),
)  # fmt: skip
